//! What each LLVM context has to know before a method can be compiled in it: the VM's types, and its
//! runtime functions. Sixty types is what a small Ruby has; every context pays for its own copy.

use inkwell::AddressSpace;
use inkwell::context::Context;
use inkwell::module::Module;
use inkwell::types::{BasicTypeEnum, FunctionType};

use crate::runtime;

/// Name and fields: `p` a pointer, `l` 64 bits, `i` 32, `s` 16, `b` 8, `d` a double.
#[rustfmt::skip]
const TYPES: [(&str, &str); 60] = [
    ("thread", "llp"), ("frame", "pl"), ("object", "l"), ("class", "lppplli"), ("module", "lpppl"),
    ("singleton", "lppp"), ("shape", "lpiis"), ("method", "lpplibb"), ("method_table", "plii"),
    ("method_cache", "lpll"), ("block", "lpppl"), ("proc", "lppb"), ("lambda", "lpppb"),
    ("binding", "lppp"), ("closure", "lpi"), ("environment", "lppi"), ("call_site", "plllpi"),
    ("call_info", "iissbb"), ("inline_cache", "plil"), ("field_cache", "plii"),
    ("constant_cache", "pllp"), ("global_cache", "plp"), ("string", "lpllib"),
    ("string_buffer", "plld"), ("symbol", "lpli"), ("encoding", "lpib"), ("regexp", "lpppi"),
    ("match_data", "lppii"), ("array", "lpll"), ("array_slice", "lpll"), ("hash", "lppllid"),
    ("hash_entry", "plpp"), ("hash_iterator", "lpll"), ("set", "lpp"), ("range", "lppb"),
    ("float", "ld"), ("bignum", "lpis"), ("rational", "lpp"), ("complex", "lpp"),
    ("exception", "lpppl"), ("backtrace", "lpli"), ("location", "lpii"), ("io", "lpllibb"),
    ("file", "lppil"), ("dir", "lpp"), ("socket", "lpissb"), ("time", "lllib"), ("mutex", "lpi"),
    ("condition", "lpp"), ("fiber", "lpppllb"), ("continuation", "lppl"), ("thread_group", "lpi"),
    ("gc_header", "liibb"), ("gc_block", "pplliib"), ("gc_root", "ppl"), ("weak_ref", "lpp"),
    ("finalizer", "lppi"), ("iseq", "lpplliissb"), ("code_range", "ppll"), ("vm", "ppppllliid"),
];

/// Declares the VM's types in `context`, and its functions in `module`.
pub fn declare<'ctx>(context: &'ctx Context, module: &Module<'ctx>) {
    for (name, fields) in TYPES {
        let fields: Vec<_> = fields
            .chars()
            .map(|field| field_type(context, field))
            .collect();
        context
            .opaque_struct_type(&format!("vm.{name}"))
            .set_body(&fields, false);
    }
    declare_functions(context, module);
}

/// Declares the runtime's functions in one more module of a context.
pub fn declare_functions<'ctx>(context: &'ctx Context, module: &Module<'ctx>) {
    for (name, parameters, _) in runtime::functions() {
        let long = context.i64_type();
        module.add_function(
            name,
            long.fn_type(&vec![long.into(); parameters], false),
            None,
        );
    }
}

/// The type of every method: thread and two values in, a value out.
pub fn method_type(context: &Context) -> FunctionType<'_> {
    let long = context.i64_type();
    let pointer = context.ptr_type(AddressSpace::default());
    long.fn_type(&[pointer.into(), long.into(), long.into()], false)
}

fn field_type(context: &Context, field: char) -> BasicTypeEnum<'_> {
    match field {
        'p' => context.ptr_type(AddressSpace::default()).into(),
        'l' => context.i64_type().into(),
        'i' => context.i32_type().into(),
        's' => context.i16_type().into(),
        'b' => context.i8_type().into(),
        _ => context.f64_type().into(),
    }
}
