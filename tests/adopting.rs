//! Bitcode that is adopted: with debug information, kept or not, and damaged.

mod support;

use std::sync::{Arc, Mutex};

use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::{BoxError, Cache, DebugInfo, Error, Frontend, Handle, OptLevel, Unit};
use support::Unary;

/// Two functions with all that `-g` says of them; `f` has the other inlined.
const DESCRIBED: &str = r#"
    @table = private constant [4 x i64] [i64 3, i64 5, i64 7, i64 11], !dbg !20
    define internal i64 @twice(i64 %x) !dbg !6 {
      #dbg_value(i64 %x, !10, !DIExpression(), !11)
      %r = mul i64 %x, 2, !dbg !11
      ret i64 %r, !dbg !11
    }
    define i64 @f(i64 %x) !dbg !12 {
    entry:
      %v = alloca i64
      store i64 %x, ptr %v, !dbg !14
      #dbg_declare(ptr %v, !13, !DIExpression(), !14)
      br label %head, !dbg !14
    head:
      %i = phi i64 [ 0, %entry ], [ %j, %head ], !dbg !15
      %s = phi i64 [ 0, %entry ], [ %t, %head ], !dbg !15
      %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i, !dbg !15
      %e = load i64, ptr %p, !dbg !15
      %d = call i64 @twice(i64 %e), !dbg !16
      %t = add i64 %s, %d, !dbg !16
      %j = add i64 %i, 1, !dbg !15
      %c = icmp ult i64 %j, 4, !dbg !15
      br i1 %c, label %head, label %done, !dbg !15
    done:
      %y = load i64, ptr %v, !dbg !17
      %r = add i64 %t, %y, !dbg !17
      ret i64 %r, !dbg !17
    }
    !llvm.dbg.cu = !{!0}
    !llvm.module.flags = !{!3, !4}
    !0 = distinct !DICompileUnit(language: DW_LANG_C11, file: !1, producer: "by hand", isOptimized: true, runtimeVersion: 0, emissionKind: FullDebug, globals: !{!20}, splitDebugInlining: false)
    !1 = !DIFile(filename: "described.c", directory: "/")
    !2 = !DIBasicType(name: "long", size: 64, encoding: DW_ATE_signed)
    !3 = !{i32 7, !"Dwarf Version", i32 5}
    !4 = !{i32 2, !"Debug Info Version", i32 3}
    !5 = !DISubroutineType(types: !{!2, !2})
    !6 = distinct !DISubprogram(name: "twice", scope: !1, file: !1, line: 3, type: !5, scopeLine: 3, flags: DIFlagPrototyped, spFlags: DISPFlagLocalToUnit | DISPFlagDefinition | DISPFlagOptimized, unit: !0, retainedNodes: !{!10})
    !10 = !DILocalVariable(name: "x", arg: 1, scope: !6, file: !1, line: 3, type: !2)
    !11 = !DILocation(line: 3, column: 9, scope: !6)
    !12 = distinct !DISubprogram(name: "f", scope: !1, file: !1, line: 7, type: !5, scopeLine: 7, flags: DIFlagPrototyped, spFlags: DISPFlagDefinition | DISPFlagOptimized, unit: !0, retainedNodes: !{!13})
    !13 = !DILocalVariable(name: "v", scope: !12, file: !1, line: 8, type: !2)
    !14 = !DILocation(line: 8, column: 3, scope: !12)
    !15 = !DILocation(line: 9, column: 3, scope: !18)
    !16 = !DILocation(line: 10, column: 3, scope: !18)
    !17 = !DILocation(line: 12, column: 3, scope: !12)
    !18 = distinct !DILexicalBlock(scope: !12, file: !1, line: 9, column: 3)
    !20 = !DIGlobalVariableExpression(var: !21, expr: !DIExpression())
    !21 = distinct !DIGlobalVariable(name: "table", scope: !0, file: !1, line: 1, type: !22, isLocal: true, isDefinition: true)
    !22 = !DICompositeType(tag: DW_TAG_array_type, baseType: !2, size: 256, elements: !{!23})
    !23 = !DISubrange(count: 4)
"#;

fn assemble(text: &str) -> Vec<u8> {
    let context = Context::create();
    let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
    let module = context.create_module_from_ir(text).unwrap();
    module.verify().unwrap();
    module.write_bitcode_to_memory().as_slice().to_vec()
}

/// Adopts `f` of the bitcode, and looks how many compile units came along.
struct Adopts {
    bitcode: Vec<u8>,
    units: Arc<Mutex<Vec<u32>>>,
}

impl Frontend for Adopts {
    type Key = u32;

    fn emit<'ctx>(&self, _: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        unit.adopt(&self.bitcode, "f", &mut |_| None)?;
        let units = unit.module().get_global_metadata_size("llvm.dbg.cu");
        self.units.lock().unwrap().push(units);
        Ok(())
    }
}

fn method(cache: &Cache<u32>, key: u32) -> Handle<u32, Unary> {
    // SAFETY: all bitcode here has this type for `f`.
    unsafe { cache.method(&key) }.unwrap()
}

/// The machine code of a cache's first method, and what is behind it.
fn code_of(cache: &Cache<u32>, key: u32) -> Vec<u8> {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = method(cache, key);
    // SAFETY: the type is right.
    let code = unsafe { entry.get(&mut guard).unwrap().pointer() } as *const u8;
    // SAFETY: the guard keeps it, and the slot that it is the first in is longer.
    let bytes = unsafe { std::slice::from_raw_parts(code, 256) };
    bytes.to_vec()
}

/// Whether two pieces of code are the same, but for the distance of what they refer to: whole slots.
fn are_the_same_code(one: &[u8], other: &[u8]) -> bool {
    const SLOT: i32 = 16 << 10;
    let field = |code: &[u8], at: usize| {
        let bytes = code.get(at..at + 4)?.try_into().ok()?;
        Some(i32::from_le_bytes(bytes))
    };
    let mut distance = None;
    let mut at = 0;
    while at < one.len() {
        if one[at] == other[at] {
            at += 1;
            continue;
        }
        // The lowest byte of a distance is the same.
        let begin = (1..4).find_map(|n| {
            let begin = at.checked_sub(n)?;
            let more = field(one, begin)?.wrapping_sub(field(other, begin)?);
            (more % SLOT == 0 && *distance.get_or_insert(more) == more).then_some(begin)
        });
        match begin {
            Some(begin) => at = begin + 4,
            None => return false,
        }
    }
    one.len() == other.len()
}

#[test]
fn debug_information_is_kept_or_not_and_changes_no_code() {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O3] {
        let run = |debug_info: Option<DebugInfo>| {
            let units = Arc::default();
            let front_end = Adopts {
                bitcode: assemble(DESCRIBED),
                units: Arc::clone(&units),
            };
            let mut builder = Cache::builder(front_end).opt_level(level);
            if let Some(debug_info) = debug_info {
                builder = builder.debug_info(debug_info);
            }
            let cache = builder.build().unwrap();
            let me = cache.participant("test");
            let code = code_of(&cache, 1);
            for key in 1..4 {
                let mut guard = me.pin();
                // SAFETY: the type is right.
                let result = unsafe { method(&cache, key).get(&mut guard).unwrap().call(100) };
                assert_eq!(result, 152);
            }
            let units = units.lock().unwrap().clone();
            (units, code)
        };
        let (kept, with) = run(Some(DebugInfo::Kept));
        let (stripped, without) = run(Some(DebugInfo::Stripped));
        assert!(kept.iter().all(|units| *units == 1), "{kept:?}");
        assert!(stripped.iter().all(|units| *units == 0), "{stripped:?}");
        assert!(
            are_the_same_code(&with, &without),
            "{level:?}: {with:x?} {without:x?}"
        );
        assert_eq!(run(None).0, stripped, "it is stripped unless asked for");
    }
}

/// A front end that describes its functions itself.
struct Describes;

impl Frontend for Describes {
    type Key = u32;

    fn emit<'ctx>(&self, n: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        use inkpot::inkwell::debug_info::{
            AsDIScope, DIFlags, DIFlagsConstants, DWARFEmissionKind, DWARFSourceLanguage,
        };
        let context = unit.context();
        let (describe, whole) = unit.module().create_debug_info_builder(
            true,
            DWARFSourceLanguage::C,
            "method",
            "/",
            "test",
            false,
            "",
            0,
            "",
            DWARFEmissionKind::Full,
            0,
            false,
            false,
            "",
            "",
        );
        let long = context.i64_type();
        let file = whole.get_file();
        let type_of = describe.create_subroutine_type(file, None, &[], DIFlags::ZERO);
        let own = unit.define(long.fn_type(&[long.into()], false));
        let scope = whole.as_debug_info_scope();
        let name = format!("method {n}");
        let described = describe.create_function(
            scope,
            &name,
            None,
            file,
            1,
            type_of,
            false,
            true,
            1,
            DIFlags::ZERO,
            false,
        );
        own.set_subprogram(described);
        let build = context.create_builder();
        build.position_at_end(context.append_basic_block(own, "entry"));
        let place =
            describe.create_debug_location(context, 2, 1, described.as_debug_info_scope(), None);
        build.set_current_debug_location(place);
        let x = own.get_first_param().ok_or("x")?.into_int_value();
        let sum = build.build_int_add(x, long.const_int((*n).into(), false), "")?;
        build.build_return(Some(&sum))?;
        describe.finalize();
        Ok(())
    }
}

#[test]
fn debug_information_of_a_front_ends_own() {
    for debug_info in [DebugInfo::Kept, DebugInfo::Stripped] {
        let cache = Cache::builder(Describes)
            .debug_info(debug_info)
            .build()
            .unwrap();
        let me = cache.participant("test");
        for n in 0..20 {
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let result = unsafe { method(&cache, n).get(&mut guard).unwrap().call(100) };
            assert_eq!(result, 100 + i64::from(n));
        }
        assert_eq!(cache.statistics().failures, 0);
    }
}

/// Adopts as much of the bitcode as the key says.
struct CutsShort(Vec<u8>);

impl Frontend for CutsShort {
    type Key = u32;

    fn emit<'ctx>(&self, length: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let bitcode = &self.0[..*length as usize];
        unit.adopt(bitcode, "f", &mut |_| None).map(drop)
    }
}

#[test]
fn bitcode_that_was_cut_short_is_an_error() {
    let whole = assemble(DESCRIBED);
    let length = whole.len() as u32;
    let cache = Cache::builder(CutsShort(whole)).build().unwrap();
    let me = cache.participant("test");
    let mut failed = 0;
    for cut in 0..length {
        match method(&cache, cut).get(&mut me.pin()).map(|_| ()) {
            Err(Error::Frontend { source, .. }) => {
                assert!(source.to_string().contains("bitcode"), "{source}");
                failed += 1;
            }
            // The last block has what was needed before.
            other => assert!(cut > length / 2 && other.is_ok(), "{cut}: {other:?}"),
        }
    }
    assert!(failed > length / 2, "{failed} of {length}");
    // SAFETY: the type is right.
    let result = unsafe { method(&cache, length).get(&mut me.pin()).unwrap().call(1) };
    assert_eq!(result, 53);
}
