//! What a poll costs a loop of ten instructions that nothing holds up but their number: the same
//! loop, compiled by two caches, one of them with polls.

use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::{BoxError, Cache, Frontend, Unit};

use crate::measure::{Pair, nanoseconds};

/// What the loop goes over: it stays in the first cache.
const WORDS: usize = 1024;
const TURNS: u64 = 64 * WORDS as u64;

/// Where the loop lies in a cache line. A loop takes half as much again in some places, which says
/// nothing of either side; the code generator puts loops at multiples of 16.
const PLACES: [u64; 4] = [0, 16, 32, 48];

type Code = unsafe extern "C" fn(*const i64, i64) -> i64;

pub fn run() {
    let words: Vec<i64> = (0..WORDS as i64).map(|i| i * i % 1009).collect();
    let caches = [true, false].map(|polls| {
        let builder = Cache::builder(Loops).polls(polls);
        builder.build().expect("a cache")
    });
    let participants = caches.each_ref().map(|cache| cache.participant("loops"));
    let mut guards = participants.each_ref().map(|participant| participant.pin());
    let codes: Vec<[Code; 2]> = PLACES
        .iter()
        .map(|place| {
            let mut guards = guards.iter_mut();
            caches.each_ref().map(|cache| {
                let guard = guards.next().expect("one for each cache");
                // SAFETY: `Loops` emits every key with this type.
                let handle = unsafe { cache.method::<Code>(place) }.expect("there are cells");
                // SAFETY: the guard is held to the end of this function, where it is not used
                // again, and nothing evicts the method.
                unsafe { handle.get(guard).expect("it compiles").pointer() }
            })
        })
        .collect();
    let pair = Pair {
        name: "polls",
        ours: "with a poll",
        theirs: "without",
        unit: "ns a turn, mean of 4 places",
    };
    let run = |code: Code, turns: u64| {
        for _ in 0..turns / WORDS as u64 {
            // SAFETY: the loop reads so many words; its code is resident.
            unsafe { code(words.as_ptr(), WORDS as i64) };
        }
    };
    pair.rounds(|| {
        let figures: Vec<_> = codes
            .iter()
            .map(|&[polls, bare]| nanoseconds(TURNS, |n| run(polls, n), |n| run(bare, n)))
            .collect();
        let mean = |side: fn(&(f64, f64)) -> f64| {
            figures.iter().map(side).sum::<f64>() / PLACES.len() as f64
        };
        (mean(|f| f.0), mean(|f| f.1))
    });
}

/// The loop: one instruction to load a word, six to fold, three to go round. It is not unrolled: else
/// a poll would be shared by several turns.
const LOOP: &str = "
define i64 @self(ptr %array, i64 %n) {
entry:
  call void asm sideeffect \".p2align 6; .skip PLACE, 0x90\", \"\"()
  br label %turn
turn:
  %i = phi i64 [ 0, %entry ], [ %next, %turn ]
  %a = phi i64 [ %n, %entry ], [ %a1, %turn ]
  %b = phi i64 [ %n, %entry ], [ %b1, %turn ]
  %c = phi i64 [ %n, %entry ], [ %c1, %turn ]
  %d = phi i64 [ %n, %entry ], [ %d1, %turn ]
  %e = phi i64 [ %n, %entry ], [ %e1, %turn ]
  %f = phi i64 [ %n, %entry ], [ %f1, %turn ]
  %at = getelementptr i64, ptr %array, i64 %i
  %word = load i64, ptr %at
  %a1 = add i64 %a, %word
  %b1 = xor i64 %b, %word
  %c1 = or i64 %c, %word
  %d1 = and i64 %d, %word
  %e1 = sub i64 %e, %word
  %f1 = xor i64 %f, %i
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %turn, label %done, !llvm.loop !0
done:
  %ab = xor i64 %a1, %b1
  %cd = xor i64 %c1, %d1
  %ef = xor i64 %e1, %f1
  %abcd = xor i64 %ab, %cd
  %all = xor i64 %abcd, %ef
  ret i64 %all
}
!0 = distinct !{!0, !1}
!1 = !{!\"llvm.loop.unroll.disable\"}
";

struct Loops;

impl Frontend for Loops {
    type Key = u64;

    fn emit<'ctx>(&self, place: &u64, unit: &mut Unit<'_, 'ctx, u64>) -> Result<(), BoxError> {
        let text = LOOP.replace("PLACE", &place.to_string());
        let context = Context::create();
        let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "loop");
        let module = context
            .create_module_from_ir(text)
            .map_err(|e| e.to_string())?;
        unit.adopt(
            module.write_bitcode_to_memory().as_slice(),
            "self",
            &mut |_| None,
        )?;
        Ok(())
    }
}
