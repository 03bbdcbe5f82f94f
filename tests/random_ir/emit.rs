//! Functions as IR: steps, control flow, calls. Whatever the steps are, it ends: a loop turns a few times, and turns and
//! calls are paid for from a counter that all functions share.

use std::collections::BTreeSet;

use crate::body::{Body, Value};
use crate::memory::{BY_VALUE, COUNTERS, OWN};
use crate::program::{Merged, Pick, Program, Signature, Step};
use crate::types::{I32, I64, Ty, mask};

/// Activations at a time, and turns and calls in all, of one call from outside.
pub const DEPTH: u32 = 6;
pub const FUEL: u32 = 400;

/// A function's text, and what has to stand with it.
pub struct Text {
    pub function: String,
    pub declared: BTreeSet<String>,
    /// Functions of the program that it names.
    pub named: BTreeSet<usize>,
}

/// A struct of these, or the one.
pub fn result_type(program: &Program, signature: &Signature) -> String {
    let types: Vec<String> = signature
        .results
        .iter()
        .map(|&r| program.ty(r).to_string())
        .collect();
    match types.as_slice() {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

/// The type of a function's parameters, with a name for each if it is defined.
pub fn parameters(program: &Program, signature: &Signature, named: bool) -> String {
    let name = |name: String| {
        if named {
            format!(" %{name}")
        } else {
            String::new()
        }
    };
    let mut all = vec![
        format!("ptr{}", name("shared".into())),
        format!("ptr{}", name("buffer".into())),
    ];
    if signature.by_value {
        all.push(format!(
            "ptr byval([{BY_VALUE} x i8]) align 8{}",
            name("copy".into())
        ));
    }
    for (at, &parameter) in signature.parameters.iter().enumerate() {
        all.push(format!(
            "{}{}",
            program.ty(parameter),
            name(format!("p{at}"))
        ));
    }
    all.join(", ")
}

pub fn declaration(program: &Program, function: usize) -> String {
    let signature = program.signature(function);
    let result = result_type(program, signature);
    format!(
        "declare {result} @f{function}({})",
        parameters(program, signature, false)
    )
}

/// A function of the program.
pub fn function(program: &Program, own: usize) -> Text {
    let signature = program.signature(own);
    let mut body = Body::new(program, own);
    body.begin("entry");
    body.enter(&result_type(program, signature));
    for (at, &parameter) in signature.parameters.iter().enumerate() {
        body.keep(program.ty(parameter), format!("%p{at}"));
    }
    body.steps(&program.functions[own].steps);
    body.leave();
    let head = format!(
        "define {} @f{own}({}) {{",
        result_type(program, signature),
        parameters(program, signature, true)
    );
    Text {
        function: format!("{head}\n{}}}\n", body.text),
        declared: body.declared,
        named: body.named,
    }
}

impl Body<'_> {
    /// Returns at once if there are too many activations or there were too many turns; else fills what
    /// memory the function has.
    fn enter(&mut self, result: &str) {
        self.line(format_args!("%own = alloca [{OWN} x i8], align 16"));
        let burnt = self.burn();
        let depth = self.value("load i32, ptr %shared, align 4");
        let deep = self.value(format_args!("icmp uge i32 {depth}, {DEPTH}"));
        let no = self.value(format_args!("or i1 {burnt}, {deep}"));
        self.line(format_args!("br i1 {no}, label %nothing, label %go"));
        self.begin("nothing");
        self.line(format_args!("ret {result} zeroinitializer"));
        self.begin("go");
        let deeper = self.value(format_args!("add i32 {depth}, 1"));
        self.line(format_args!("store i32 {deeper}, ptr %shared, align 4"));
        self.line(format_args!(
            "%common = getelementptr i8, ptr %shared, i32 {COUNTERS}"
        ));
        for word in 0..OWN / 8 {
            let at = self.value(format_args!("getelementptr i8, ptr %own, i32 {}", word * 8));
            self.line(format_args!(
                "store i64 {}, ptr {at}, align 8",
                u64::from(word) * 0x0101_0101_0101
            ));
        }
    }

    /// Takes a turn off the counter; whether none is left.
    fn burn(&mut self) -> String {
        let at = self.value("getelementptr i8, ptr %shared, i32 4");
        let fuel = self.value(format_args!("load i32, ptr {at}, align 4"));
        let none = self.value(format_args!("icmp eq i32 {fuel}, 0"));
        let less = self.value(format_args!(
            "call i32 @llvm.usub.sat.i32(i32 {fuel}, i32 1)"
        ));
        self.declared
            .insert("declare i32 @llvm.usub.sat.i32(i32, i32)".to_owned());
        self.line(format_args!("store i32 {less}, ptr {at}, align 4"));
        none
    }

    /// Works the last values, of those behind the first `from`, into a sum that all functions share: whatever
    /// is computed shows.
    fn note(&mut self, from: usize, most: usize) {
        let new = &self.reach[from.min(self.reach.len())..];
        let last = new[new.len().saturating_sub(most)..].to_vec();
        if last.is_empty() {
            return;
        }
        let at = self.value("getelementptr i8, ptr %shared, i32 8");
        let mut sum = self.value(format_args!("load i64, ptr {at}, align 8"));
        for (ty, value) in last {
            let (ints, bits) = self.bits(ty, &value);
            let one = Ty::int(ints.bits());
            let word = match ints == one {
                true => bits,
                false => self.value(format_args!("bitcast {ints} {bits} to {one}")),
            };
            let low = self.resize(one, I64, &word, false);
            sum = self.value(format_args!("xor i64 {sum}, {low}"));
            if one.bits() > 64 {
                let high = self.value(format_args!("lshr {one} {word}, {}", one.bits() - 64));
                let high = self.resize(one, I64, &high, false);
                sum = self.value(format_args!("add i64 {sum}, {high}"));
            }
            sum = self.value(format_args!("mul i64 {sum}, 1181783497276652981"));
        }
        self.line(format_args!("store i64 {sum}, ptr {at}, align 8"));
    }

    /// The end of the function.
    fn leave(&mut self) {
        let (program, signature) = (self.program, self.program.signature(self.own));
        let pick = program.functions[self.own].result;
        let result = result_type(program, signature);
        let mut value = "zeroinitializer".to_owned();
        let results: Vec<Value> = self.bring(&results(signature, pick));
        for (at, (ty, one)) in results.iter().enumerate() {
            value = match results.len() {
                1 => one.clone(),
                _ => self.value(format_args!(
                    "insertvalue {result} {value}, {ty} {one}, {at}"
                )),
            };
        }
        self.note(0, 6);
        let depth = self.value("load i32, ptr %shared, align 4");
        let less = self.value(format_args!("sub i32 {depth}, 1"));
        self.line(format_args!("store i32 {less}, ptr %shared, align 4"));
        self.line(format_args!("ret {result} {value}"));
    }

    pub fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: &Step) {
        let program = self.program;
        let ty = |of: Pick| program.ty(of);
        match *step {
            Step::Compute { op, of, a, b, c } => self.compute(op, ty(of), [a, b, c]),
            Step::Compare {
                predicate,
                of,
                a,
                b,
            } => self.compare(predicate, ty(of), a, b),
            Step::Select { of, on, a, b } => self.select(ty(of), on, a, b),
            Step::Convert { from, to, a, how } => self.convert(ty(from), ty(to), a, how),
            Step::Lanes { op, of, a, b, at } => {
                let vector = program.palette.iter().find(|ty| ty.is_vector());
                let of = if ty(of).is_vector() {
                    ty(of)
                } else {
                    *vector.unwrap_or(&ty(of))
                };
                self.lanes(op, of, [a, b, at]);
            }
            Step::Load {
                of,
                from,
                at,
                volatile,
            } => self.load(ty(of), from, at, volatile),
            Step::Store {
                of,
                to,
                at,
                a,
                volatile,
            } => self.store(ty(of), to, at, a, volatile),
            Step::Move { how, at, length } => self.copy(how, at, length),
            Step::Atomic {
                op,
                of,
                to,
                at,
                a,
                b,
            } => self.atomic(op, ty(of), [to.into(), at, a, b]),
            Step::Table { table, at } => self.table(table, at),
            Step::Call {
                callee,
                arguments,
                own_memory,
                by_table,
            } => {
                self.call(callee, arguments, own_memory, by_table);
            }
            Step::Branch {
                on,
                ref yes,
                ref no,
                ref merged,
            } => {
                let on = self.condition(on);
                let [then, other] = ["then", "else"].map(|kind| self.name(kind));
                self.line(format_args!("br i1 {on}, label %{then}, label %{other}"));
                self.arms(&[(then, yes), (other, no)], merged);
            }
            Step::Switch {
                on,
                cases,
                ref arms,
                ref merged,
            } => self.switch(on, cases, arms, merged),
            Step::Loop {
                times,
                ref carried,
                ref body,
            } => self.turns(times, carried, body),
            Step::Break { on } => {
                let Some(end) = self.ends.last().cloned() else {
                    return;
                };
                let (on, stay) = (self.condition(on), self.name("stay"));
                self.line(format_args!("br i1 {on}, label %{end}, label %{stay}"));
                self.begin(&stay);
            }
            Step::Leave { on } => {
                let (on, leave, stay) = (self.condition(on), self.name("leave"), self.name("stay"));
                self.line(format_args!("br i1 {on}, label %{leave}, label %{stay}"));
                self.begin(&leave);
                self.leave();
                self.begin(&stay);
            }
        }
    }

    /// Blocks that have been branched to, and where they come together.
    fn arms(&mut self, arms: &[(String, &Vec<Step>)], merged: &[Merged]) {
        let end = self.name("met");
        let reach = self.reach.len();
        let mut paths = Vec::new();
        for (block, steps) in arms {
            self.begin(block);
            self.steps(steps);
            self.note(reach, 2);
            let brings = self.bring(merged);
            self.jump(&end);
            paths.push((self.block.clone(), brings));
            self.reach.truncate(reach);
        }
        self.begin(&end);
        self.meet(&paths);
    }

    /// Cases close to each other or anywhere, some of which go the same way.
    fn switch(&mut self, on: Pick, cases: Pick, arms: &[Vec<Step>], merged: &[Merged]) {
        let (ty, value) = self.integer(on);
        let all = mask(ty.scalar.bits());
        let blocks: Vec<_> = arms
            .iter()
            .map(|steps| (self.name("case"), steps))
            .collect();
        let (first, rest) = blocks.split_first().expect("an arm at least");
        let stride = [1, 1, 3, 0x1234_5678_9ABC_DEF1][usize::from(cases % 4)];
        let start = u128::from(cases / 4 % 16);
        let mut seen = BTreeSet::new();
        let mut words = Vec::new();
        for at in 0..rest.len() * (1 + usize::from(cases / 64 % 5)) {
            let case = start.wrapping_add(stride * at as u128) & all;
            if seen.insert(case) {
                words.push(format!("{ty} {case}, label %{}", rest[at % rest.len()].0));
            }
        }
        // What no case leads to would have nothing before it.
        let used = words.len().min(rest.len());
        self.line(format_args!(
            "switch {ty} {value}, label %{} [ {} ]",
            first.0,
            words.join(" ")
        ));
        self.arms(&blocks[..=used], merged);
    }

    /// A loop of up to seven turns, by a constant or not.
    fn turns(&mut self, times: Pick, carried: &[Merged], body: &[Step]) {
        let most = self.below(8, times);
        let starts = self.bring(carried);
        let [head, again, end] = ["head", "again", "end"].map(|kind| self.name(kind));
        let before = self.block.clone();
        self.jump(&head);
        self.begin(&head);
        // What comes around is known when the body is: it is written into its place then.
        let marks: Vec<(String, Value)> = starts
            .iter()
            .map(|(ty, start)| {
                let mark = self.name("mark");
                let value = self.value(format_args!("phi {ty} [ {start}, %{before} ], <{mark}>"));
                (mark, (*ty, value))
            })
            .collect();
        let turn = self.name("%turn");
        let turn_mark = self.name("mark");
        self.line(format_args!(
            "{turn} = phi i32 [ 0, %{before} ], <{turn_mark}>"
        ));
        for (_, (ty, value)) in &marks {
            self.keep(*ty, value.clone());
        }
        self.keep(I32, turn.clone());
        let burnt = self.burn();
        let more = self.value(format_args!("icmp ult i32 {turn}, {most}"));
        let on = self.value(format_args!("select i1 {burnt}, i1 false, i1 {more}"));
        self.line(format_args!("br i1 {on}, label %{again}, label %{end}"));
        self.begin(&again);
        let reach = self.reach.len();
        self.ends.push(end.clone());
        self.steps(body);
        self.ends.pop();
        self.note(reach, 2);
        let next = self.value(format_args!("add i32 {turn}, 1"));
        let brings = self.bring(carried);
        let last = self.block.clone();
        self.jump(&head);
        for ((mark, _), (_, value)) in marks.iter().zip(&brings) {
            self.fill(mark, &format!("[ {value}, %{last} ]"));
        }
        self.fill(&turn_mark, &format!("[ {next}, %{last} ]"));
        self.reach.truncate(reach);
        self.begin(&end);
    }

    fn fill(&mut self, mark: &str, text: &str) {
        self.text = self.text.replacen(&format!("<{mark}>"), text, 1);
    }

    fn call(&mut self, callee: Pick, arguments: Pick, own_memory: bool, by_table: Option<Pick>) {
        let program = self.program;
        let callee = usize::from(callee) % program.functions.len();
        let signature = program.signature(callee);
        let target = match by_table {
            None => {
                self.named.insert(callee);
                format!("@f{callee}")
            }
            Some(at) => self.address_of_one_like(callee, at),
        };
        let buffer = if own_memory { "%own" } else { "%buffer" };
        let mut words = vec!["ptr %shared".to_owned(), format!("ptr {buffer}")];
        if signature.by_value {
            words.push(format!("ptr byval([{BY_VALUE} x i8]) align 8 %own"));
        }
        for (at, &parameter) in signature.parameters.iter().enumerate() {
            let ty = program.ty(parameter);
            let pick = arguments.rotate_left(3 * at as u32);
            words.push(format!("{ty} {}", self.operand(ty, pick)));
        }
        let result = result_type(program, signature);
        let value = self.value(format_args!("call {result} {target}({})", words.join(", ")));
        if let [one] = signature.results[..] {
            return self.keep(program.ty(one), value);
        }
        for (at, &one) in signature.results.iter().enumerate() {
            let field = self.value(format_args!("extractvalue {result} {value}, {at}"));
            self.keep(program.ty(one), field);
        }
    }

    /// An address that is chosen when it runs: of functions of a signature, out of a table.
    fn address_of_one_like(&mut self, callee: usize, at: Pick) -> String {
        let alike = self.program.alike(callee);
        self.named.extend(&alike);
        let at = self.below(alike.len() as u32, at);
        let array = format!("[{} x ptr]", alike.len());
        let first = alike[0];
        let address = self.value(format_args!(
            "getelementptr {array}, ptr @functions{first}, i32 0, i32 {at}"
        ));
        self.value(format_args!("load ptr, ptr {address}"))
    }
}

fn results(signature: &Signature, pick: Pick) -> Vec<Merged> {
    let turned = |(at, &of): (usize, &Pick)| (of, pick.rotate_left(at as u32 * 2));
    signature.results.iter().enumerate().map(turned).collect()
}
