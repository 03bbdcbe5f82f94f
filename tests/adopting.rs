//! One piece of bitcode that serves for several methods: what it declares stands for another method or import in
//! each of them.

use std::time::Duration;

use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::{BoxError, Cache, Frontend, Handle, Unit};

type Nullary = unsafe extern "C" fn() -> i64;

/// Two instances of a program of two functions and a variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    instance: usize,
    function: &'static str,
}

const COUNTS: &str = "
    @variable = external global i64
    declare i64 @other()
    define i64 @counts() {
      %old = load i64, ptr @variable
      %new = add i64 %old, 1
      store i64 %new, ptr @variable
      %other = call i64 @other()
      %sum = add i64 %new, %other
      ret i64 %sum
    }";

const OTHER: &str = "
    @variable = external global i64
    define i64 @other() {
      %value = load i64, ptr @variable
      %result = mul i64 %value, 1000
      ret i64 %result
    }";

fn bitcode(text: &str) -> Result<Vec<u8>, BoxError> {
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
    let module = context
        .create_module_from_ir(buffer)
        .map_err(|error| error.to_string())?;
    Ok(module.write_bitcode_to_memory().as_slice().to_vec())
}

struct Instances {
    variables: [usize; 2],
}

impl Frontend for Instances {
    type Key = Key;

    fn emit<'ctx>(&self, key: &Key, unit: &mut Unit<'_, 'ctx, Key>) -> Result<(), BoxError> {
        let text = if key.function == "counts" {
            COUNTS
        } else {
            OTHER
        };
        let instance = key.instance;
        let callee = &mut |name: &str| {
            let function = "other";
            (name == function).then_some(Key { instance, function })
        };
        let import = &mut |name: &str| (name == "variable").then(|| format!("{name}.{instance}"));
        let piece = bitcode(text)?;
        unit.adopt_as(&piece, key.function, callee, import)
            .map(drop)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        let instance: usize = symbol.strip_prefix("variable.")?.parse().ok()?;
        Some(self.variables[instance] as *const ())
    }
}

fn cache() -> Cache<Key> {
    let variable = |start: i64| Box::into_raw(Box::new(start)) as usize;
    let front_end = Instances {
        variables: [variable(0), variable(10)],
    };
    Cache::builder(front_end)
        // Both instances' methods come into one module.
        .batch_window(Duration::from_millis(100))
        .build()
        .unwrap()
}

fn method(cache: &Cache<Key>, instance: usize, function: &'static str) -> Handle<Key, Nullary> {
    // SAFETY: all of the functions are of this type.
    unsafe { cache.method(&Key { instance, function }) }.unwrap()
}

#[test]
fn a_piece_for_two_instances() {
    let cache = cache();
    let methods = [0, 1].map(|instance| method(&cache, instance, "counts"));
    methods.iter().for_each(|method| method.request().unwrap());
    let me = cache.participant("test");
    let mut guard = me.pin();
    for round in 1..4 {
        for (method, start) in methods.iter().zip([0, 10]) {
            let entry = method.get(&mut guard).unwrap();
            // SAFETY: the type is right.
            assert_eq!(unsafe { entry.call() }, (start + round) * 1001);
        }
    }
}
