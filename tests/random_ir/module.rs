//! Modules of a program: all of it in one, or each function in one of its own; and what calls a function from outside.

use std::collections::BTreeSet;

use crate::body::Body;
use crate::emit::{Text, declaration, function, parameters, result_type};
use crate::memory::footprint;
use crate::program::Program;

/// Bytes from an argument, or a result, to the next.
pub const STEP: usize = 32;

/// Arguments and results that there is room for.
pub const MOST: usize = 8;

/// One function: its name, and a module of it alone.
pub struct Piece {
    pub name: String,
    pub module: String,
}

/// What each module begins with: the machine's layout.
pub fn head(layout: &str) -> String {
    format!("target datalayout = \"{layout}\"\n")
}

/// Constant tables: all of them, and those of functions that are `named` in the module.
fn tables(program: &Program, named: &BTreeSet<usize>) -> String {
    let mut all = String::new();
    for (at, table) in program.tables.iter().enumerate() {
        let ty = program.ty(table.of);
        let values = table
            .values
            .iter()
            .map(|&v| format!("{ty} {}", ty.constant(v.into())));
        let values: Vec<String> = values.collect();
        let count = values.len();
        let values = values.join(", ");
        all += &format!("@table{at} = private constant [{count} x {ty}] [{values}]\n");
    }
    for first in 0..program.functions.len() {
        let alike = program.alike(first);
        // Named by the first of them, and only where all are declared.
        if alike[0] == first && alike.iter().all(|f| named.contains(f)) {
            let names: Vec<String> = alike.iter().map(|f| format!("ptr @f{f}")).collect();
            let (count, names) = (names.len(), names.join(", "));
            all += &format!("@functions{first} = private constant [{count} x ptr] [{names}]\n");
        }
    }
    all
}

fn lines(declared: &BTreeSet<String>) -> String {
    declared.iter().map(|line| format!("{line}\n")).collect()
}

/// All functions, in modules of their own.
pub fn pieces(program: &Program, layout: &str) -> Vec<Piece> {
    let module = |name: String, own: Option<usize>, text: Text| {
        let others = text.named.iter().filter(|&&other| Some(other) != own);
        let others: BTreeSet<String> = others.map(|&f| declaration(program, f)).collect();
        let module = [
            head(layout),
            tables(program, &text.named),
            lines(&text.declared),
            lines(&others),
            text.function,
        ];
        let module = module.concat();
        Piece { name, module }
    };
    let count = 0..program.functions.len();
    let functions = count
        .clone()
        .map(|f| module(format!("f{f}"), Some(f), function(program, f)));
    let doors = count.map(|f| module(format!("d{f}"), None, door(program, f)));
    functions.chain(doors).collect()
}

/// All functions, in one module.
pub fn whole(program: &Program, layout: &str) -> String {
    let all = 0..program.functions.len();
    let texts = all
        .clone()
        .map(|f| function(program, f))
        .chain(all.clone().map(|f| door(program, f)));
    let texts: Vec<Text> = texts.collect();
    let declared = texts
        .iter()
        .flat_map(|text| text.declared.clone())
        .collect();
    let functions: Vec<String> = texts.into_iter().map(|text| text.function).collect();
    let module = [
        head(layout),
        tables(program, &all.collect()),
        lines(&declared),
        functions.join("\n"),
    ];
    module.concat()
}

/// Calls a function with arguments out of memory, and leaves its results in memory: of one type for all
/// functions, so that the test can call it.
fn door(program: &Program, function: usize) -> Text {
    let signature = program.signature(function);
    let mut body = Body::new(program, function);
    body.begin("entry");
    let mut words = vec!["ptr %shared".to_owned(), "ptr %buffer".to_owned()];
    if signature.by_value {
        let list = parameters(program, signature, false);
        let by_value = list.split(", ").nth(2).expect("the third");
        words.push(format!("{by_value} %in"));
    }
    for (at, &parameter) in signature.parameters.iter().enumerate() {
        let ty = program.ty(parameter);
        assert!(at < MOST && footprint(ty) as usize <= STEP);
        let from = body.value(format_args!("getelementptr i8, ptr %in, i32 {}", at * STEP));
        let value = body.get(ty, &from, "", 1);
        words.push(format!("{ty} {value}"));
    }
    let result = result_type(program, signature);
    let value = body.value(format_args!(
        "call {result} @f{function}({})",
        words.join(", ")
    ));
    for (at, &one) in signature.results.iter().enumerate() {
        let field = match signature.results.len() {
            1 => value.clone(),
            _ => body.value(format_args!("extractvalue {result} {value}, {at}")),
        };
        let to = body.value(format_args!(
            "getelementptr i8, ptr %out, i32 {}",
            at * STEP
        ));
        body.put(program.ty(one), &field, &to, "", 1);
    }
    body.line("ret void");
    let head = format!("define void @d{function}(ptr %shared, ptr %buffer, ptr %in, ptr %out) {{");
    Text {
        function: format!("{head}\n{}}}\n", body.text),
        declared: body.declared,
        named: BTreeSet::from([function]),
    }
}
