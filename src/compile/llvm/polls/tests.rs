//! Modules of all shapes: they stay valid, and no cycle is left without a poll.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use inkwell::context::Context;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBasicBlockRef, LLVMValueRef};
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::Module;
use inkwell::values::AsValueRef;

use super::super::lower::list;
use super::super::machine::{Machine, Machines, OptLevel};
use super::super::places::PRESERVE_ALL;
use super::add;
use crate::compile::symbols::POLL_SAFEPOINT;
use crate::tier::Tier;

const LEVELS: [OptLevel; 4] = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];

fn parse<'c>(context: &'c Context, text: &str) -> Module<'c> {
    let buffer = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
    context
        .create_module_from_ir(buffer)
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The blocks of a function that its entry leads to, and where each leads.
struct Graph {
    blocks: Vec<LLVMBasicBlockRef>,
    successors: HashMap<LLVMBasicBlockRef, Vec<LLVMBasicBlockRef>>,
    /// Blocks that look at the flag.
    polls: HashSet<LLVMBasicBlockRef>,
}

impl Graph {
    fn of(function: LLVMValueRef) -> Self {
        let mut graph = Self {
            blocks: Vec::new(),
            successors: HashMap::new(),
            polls: HashSet::new(),
        };
        // SAFETY: a live function of the calling thread; nothing is changed.
        unsafe {
            let mut raised = HashSet::new();
            let mut found = Vec::from_iter(function_entry(function));
            while let Some(block) = found.pop() {
                if graph.successors.contains_key(&block) {
                    continue;
                }
                let terminator = LLVMGetBasicBlockTerminator(block);
                let n = LLVMGetNumSuccessors(terminator);
                let successors: Vec<_> = (0..n).map(|i| LLVMGetSuccessor(terminator, i)).collect();
                found.extend(&successors);
                graph.blocks.push(block);
                graph.successors.insert(block, successors);
                if calls_the_poll(block) {
                    raised.insert(block);
                }
            }
            for (&block, successors) in &graph.successors {
                if successors.iter().any(|s| raised.contains(s)) {
                    graph.polls.insert(block);
                }
            }
        }
        graph
    }

    /// Whether a cycle is left that `without` takes no part in.
    fn has_cycle(&self, without: &HashSet<LLVMBasicBlockRef>) -> bool {
        let mut left: HashSet<_> = self.blocks.iter().copied().collect();
        left.retain(|block| !without.contains(block));
        // Whatever leads nowhere is no part of a cycle.
        loop {
            let leads_on = |block| self.successors[block].iter().any(|s| left.contains(s));
            let ends: Vec<_> = left.iter().filter(|b| !leads_on(*b)).copied().collect();
            if ends.is_empty() {
                return !left.is_empty();
            }
            left.retain(|block| !ends.contains(block));
        }
    }
}

/// # Safety
/// A live function.
unsafe fn function_entry(function: LLVMValueRef) -> Option<LLVMBasicBlockRef> {
    // SAFETY: the caller's promise.
    unsafe { (LLVMCountBasicBlocks(function) > 0).then(|| LLVMGetEntryBasicBlock(function)) }
}

/// # Safety
/// A live block.
unsafe fn calls_the_poll(block: LLVMBasicBlockRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let instructions = list(LLVMGetFirstInstruction(block), LLVMGetNextInstruction);
        instructions.into_iter().any(|i| {
            !LLVMIsACallInst(i).is_null()
                && super::super::lower::name_of(LLVMGetCalledValue(i)) == POLL_SAFEPOINT
        })
    }
}

/// Puts polls into the module, and checks what came of it. Returns how many `@self` has.
fn check(module: &Module<'_>, what: &str) -> usize {
    let mut had_cycles = false;
    for function in module.get_functions() {
        had_cycles |= Graph::of(function.as_value_ref()).has_cycle(&HashSet::new());
    }
    add(module);
    if let Err(why) = module.verify() {
        panic!("{what}: {why}: {}", module.print_to_string());
    }
    let mut has_cycles = false;
    for function in module.get_functions() {
        if function.count_basic_blocks() == 0 {
            continue;
        }
        let graph = Graph::of(function.as_value_ref());
        has_cycles |= graph.has_cycle(&HashSet::new());
        let naked = module.print_to_string().to_string().contains("naked");
        assert!(
            naked || !graph.has_cycle(&graph.polls),
            "{what}: a cycle without a poll: {}",
            module.print_to_string()
        );
        let first = function.get_first_basic_block().expect("it has blocks");
        assert_eq!(
            graph.polls.contains(&first.as_mut_ptr()),
            !naked,
            "{what}: the entry"
        );
    }
    assert_eq!(had_cycles, has_cycles, "{what}: cycles come from nowhere");
    let own = module.get_function("self").expect("the text defines it");
    Graph::of(own.as_value_ref()).polls.len()
}

/// A name, a module, and the polls of `@self`.
const SHAPES: [(&str, &str, usize); 13] = [
    ("a leaf", "define i64 @self(i64 %x) { ret i64 %x }", 1),
    (
        "allocas, with something between them",
        "declare void @use(ptr)
         define i64 @self(i64 %x) {
           %a = alloca i64  store i64 %x, ptr %a  %b = alloca [9 x i64]  call void @use(ptr %b)
           %c = load i64, ptr %a  ret i64 %c }",
        1,
    ),
    (
        "a loop of one block, with phis of its own",
        "define i64 @self(i64 %n) {
         entry: br label %loop
         loop: %i = phi i64 [ 0, %entry ], [ %j, %loop ]  %s = phi i64 [ 1, %entry ], [ %t, %loop ]
           %t = mul i64 %s, %i  %j = add i64 %i, 1  %more = icmp ult i64 %j, %n
           br i1 %more, label %loop, label %done
         done: %r = phi i64 [ %t, %loop ]  ret i64 %r }",
        2,
    ),
    (
        "a loop in a loop that share a head",
        "define i64 @self(i64 %n) {
         entry: br label %head
         head: %i = phi i64 [ 0, %entry ], [ %j, %one ], [ %k, %two ]
           %j = add i64 %i, 1  %a = icmp ult i64 %j, %n  br i1 %a, label %one, label %out
         one: %odd = trunc i64 %i to i1  br i1 %odd, label %head, label %two
         two: %k = add i64 %j, 5  %b = icmp ult i64 %k, 99  br i1 %b, label %head, label %out
         out: %r = phi i64 [ %j, %head ], [ %k, %two ]  ret i64 %r }",
        3,
    ),
    (
        "a loop with two heads",
        "define i64 @self(i64 %n) {
         entry: %c = icmp eq i64 %n, 3  br i1 %c, label %left, label %right
         left: %i = phi i64 [ 0, %entry ], [ %k, %right ]  %j = add i64 %i, 1
           %l = icmp ult i64 %j, %n  br i1 %l, label %right, label %out
         right: %h = phi i64 [ 7, %entry ], [ %j, %left ]  %k = mul i64 %h, 3
           %m = icmp ult i64 %k, %n  br i1 %m, label %left, label %out
         out: ret i64 1 }",
        2,
    ),
    (
        "a switch that leads back by several cases",
        "define i64 @self(i64 %n) {
         entry: br label %head
         head: %i = phi i64 [ %n, %entry ], [ %j, %turn ], [ %j, %turn ], [ %j, %turn ]
           %j = lshr i64 %i, 1  br label %turn
         turn: switch i64 %j, label %out [ i64 1, label %head i64 3, label %head i64 9, label %head ]
         out: ret i64 %j }",
        2,
    ),
    (
        "a jump by address",
        "@places = private constant [2 x ptr] [ptr blockaddress(@self, %one), ptr blockaddress(@self, %two)]
         define i64 @self(i64 %n) {
         entry: br label %go
         go: %i = phi i64 [ %n, %entry ], [ %a, %one ], [ %b, %two ], [ %i, %go ]
           %bit = and i64 %i, 1  %at = getelementptr [2 x ptr], ptr @places, i64 0, i64 %bit
           %to = load ptr, ptr %at  indirectbr ptr %to, [label %one, label %two, label %go]
         one: %a = lshr i64 %i, 1  br label %go
         two: %b = add i64 %i, 1  %end = icmp ugt i64 %b, 99  br i1 %end, label %out, label %go
         out: ret i64 %b }",
        4,
    ),
    (
        "exceptions that lead back",
        "declare i64 @may(i64)  declare i32 @__gxx_personality_v0(...)
         define i64 @self(i64 %n) personality ptr @__gxx_personality_v0 {
         entry: br label %loop
         loop: %i = phi i64 [ %n, %entry ], [ %j, %pad ], [ %r, %loop ]
           %r = invoke i64 @may(i64 %i) to label %loop unwind label %pad
         pad: %e = landingpad { ptr, i32 } catch ptr null  %j = add i64 %i, 1
           %c = icmp ugt i64 %j, 99  br i1 %c, label %out, label %loop
         out: resume { ptr, i32 } %e }",
        3,
    ),
    (
        "a landing pad that is all of a loop",
        "declare void @may()  declare i32 @__gxx_personality_v0(...)
         define void @self() personality ptr @__gxx_personality_v0 {
         entry: invoke void @may() to label %out unwind label %pad
         pad: %i = phi i64 [ 0, %entry ], [ 1, %pad ]  %e = landingpad { ptr, i32 } cleanup
           invoke void @may() to label %out unwind label %pad
         out: ret void }",
        2,
    ),
    (
        "assembly that leads back",
        "define i64 @self(i64 %n) {
         entry: br label %loop
         loop: %i = phi i64 [ %n, %entry ], [ %j, %loop ], [ %j, %on ]  %j = add i64 %i, 1
           callbr void asm \"\", \"r,!i\"(i64 %j) to label %on [label %loop]
         on: %c = icmp ugt i64 %j, 99  br i1 %c, label %out, label %loop
         out: ret i64 %j }",
        3,
    ),
    (
        "a call in place of the frame",
        "declare i64 @other(i64)
         define i64 @self(i64 %n) { %m = add i64 %n, 1  %r = musttail call i64 @other(i64 %m)  ret i64 %r }",
        1,
    ),
    (
        "a loop that nothing leads to",
        "define i64 @self(i64 %n) {
         entry: ret i64 %n
         lost: br i1 true, label %lost, label %end
         end: ret i64 1 }",
        1,
    ),
    (
        "notes for a debugger",
        "define i64 @self(i64 %n) !dbg !3 {
         entry: br label %loop, !dbg !6
         loop: %i = phi i64 [ 0, %entry ], [ %j, %loop ]
             #dbg_value(i64 %i, !5, !DIExpression(), !6)
           %j = add i64 %i, 1, !dbg !6
             #dbg_value(i64 %j, !5, !DIExpression(), !6)
           %more = icmp ult i64 %j, %n, !dbg !6  br i1 %more, label %loop, label %done, !dbg !6
         done: ret i64 %j, !dbg !6 }
         !llvm.dbg.cu = !{!0} !llvm.module.flags = !{!8}
         !0 = distinct !DICompileUnit(language: DW_LANG_C, file: !1, emissionKind: FullDebug)
         !1 = !DIFile(filename: \"a.c\", directory: \"/\")
         !2 = !DISubroutineType(types: !{})
         !3 = distinct !DISubprogram(name: \"self\", scope: !1, file: !1, type: !2, unit: !0, spFlags: DISPFlagDefinition)
         !5 = !DILocalVariable(name: \"i\", scope: !3, file: !1, line: 1, type: !7)
         !6 = !DILocation(line: 1, scope: !3)
         !7 = !DIBasicType(name: \"long\", size: 64, encoding: DW_ATE_signed)
         !8 = !{i32 2, !\"Debug Info Version\", i32 3}",
        2,
    ),
];

#[test]
fn every_shape() {
    for (what, text, polls) in SHAPES {
        let context = Context::create();
        let module = parse(&context, text);
        assert_eq!(check(&module, what), polls, "{what}");
    }
}

/// The whole way: optimised, polled, generated.
#[test]
fn every_shape_at_every_level() {
    for level in LEVELS {
        let tier = Tier::new("test", level);
        let machines = Machines::new(std::slice::from_ref(&tier), false).unwrap();
        let machine = machines.take(level).unwrap();
        for (what, text, _) in SHAPES {
            let context = Context::create();
            let module = parse(&context, text);
            machines.describe(&module);
            let passes = Machine::passes(&tier.passes, &module);
            machine.run(passes, &module).unwrap();
            add(&module);
            module.verify().unwrap();
            let object = machine.generate(&module).unwrap();
            let has = |name: &str| object.windows(name.len()).any(|w| w == name.as_bytes());
            assert!(has(POLL_SAFEPOINT), "{what}: it polls");
        }
    }
}

#[test]
fn what_stays_in_the_entry() {
    let context = Context::create();
    let module = parse(&context, SHAPES[1].1);
    check(&module, "allocas");
    let own = module.get_function("self").unwrap();
    let entry = own.get_first_basic_block().unwrap();
    let text = entry.get_instructions().map(|i| i.to_string());
    let allocas = text.filter(|i| i.contains("alloca")).count();
    assert_eq!(allocas, 2, "both allocas");
}

#[test]
fn a_naked_function_has_none() {
    let text = "define void @self() naked { call void asm sideeffect \"ret\", \"\"() unreachable }";
    let context = Context::create();
    let module = parse(&context, text);
    assert_eq!(check(&module, "naked"), 0);
}

#[test]
fn calls_keep_registers() {
    let context = Context::create();
    let module = parse(&context, SHAPES[2].1);
    add(&module);
    let text = module.print_to_string().to_string();
    let calls: Vec<_> = text.lines().filter(|l| l.contains("  call ")).collect();
    assert_eq!(calls.len(), 2);
    assert_eq!(PRESERVE_ALL, 15);
    assert!(calls.iter().all(|c| c.contains("preserve_allcc")), "{text}");
    assert!(text.contains("load atomic i32, ptr @inkpot.poll.flag monotonic"));
}

/// A function of `n` blocks that lead anywhere, each with a phi.
fn random_function(n: u64, random: &mut impl FnMut(u64) -> u64) -> String {
    let mut leads: Vec<Vec<u64>> = (0..n)
        .map(|_| (0..random(4)).map(|_| 1 + random(n - 1)).collect())
        .collect();
    leads[0].push(1);
    let mut text = String::from("define i64 @self(i64 %n) {\n");
    for block in 0..n {
        writeln!(text, "b{block}:").unwrap();
        let from: Vec<_> = (0..n)
            .flat_map(|f| {
                leads[f as usize]
                    .iter()
                    .filter(move |&&t| t == block)
                    .map(move |_| f)
            })
            .map(|f| format!("[ %v{f}, %b{f} ]"))
            .collect();
        let value = if from.is_empty() {
            "%n".to_owned()
        } else {
            format!("%p{block}")
        };
        if !from.is_empty() {
            writeln!(text, "  %p{block} = phi i64 {}", from.join(", ")).unwrap();
        }
        writeln!(text, "  %v{block} = add i64 {value}, {}", random(99)).unwrap();
        match &leads[block as usize][..] {
            [] => writeln!(text, "  ret i64 %v{block}").unwrap(),
            [first, rest @ ..] => {
                let cases: String = rest
                    .iter()
                    .enumerate()
                    .map(|(i, to)| format!(" i64 {i}, label %b{to}"))
                    .collect();
                writeln!(text, "  switch i64 %v{block}, label %b{first} [{cases} ]").unwrap();
            }
        }
    }
    text + "}"
}

#[test]
fn graphs_of_all_kinds() {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let tier = Tier::new("test", OptLevel::O1);
    let machines = Machines::new(std::slice::from_ref(&tier), false).unwrap();
    let machine = machines.take(OptLevel::O1).unwrap();
    let mut polls = 0;
    for round in 0..400 {
        let n = 2 + random(14);
        let text = random_function(n, &mut random);
        let context = Context::create();
        let module = parse(&context, &text);
        if round % 2 == 0 {
            machine.describe(&module);
            let passes = Machine::passes(&tier.passes, &module);
            machine.run(passes, &module).unwrap();
        }
        polls += check(&module, &text);
    }
    assert!(polls > 900, "{polls} polls");
}
