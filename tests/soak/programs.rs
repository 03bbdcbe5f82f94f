//! Code of LLVM's: tiers that rise, fallbacks while there is no code, methods that inline others, polls, fallen
//! assumptions, and contexts that go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inkpot::{BoxError, Cache, Event, Fallback, Frontend, Quarantine, Tier, Unit};

use super::Stage;
use super::support::synthetic::Random;
use super::support::texts::{Name, Texts, text};
use super::support::{Unary, wait_until};
use super::tally::Tally;

/// Each name's number is the word of its fallback, which does what the method does.
struct Falls(Texts);

impl Frontend for Falls {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        self.0.emit(key, unit)
    }

    fn fallback(&self, key: &Name) -> Fallback {
        let (name, number) = key.split_once('#').expect("a name and a number");
        let number: usize = number.parse().expect("a number");
        Fallback::with_word(number * 4 + NAMES.iter().position(|n| *n == name).expect("a name"))
    }
}

const NAMES: [&str; 4] = ["add", "table", "calls", "sum"];
const ADD: &str = "; inlinable
    define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
const TABLE: &str = "
    @table = private unnamed_addr constant [4 x i64] [i64 1, i64 10, i64 100, i64 $N]
    define i64 @self(i64 %x) {
      %i = and i64 %x, 3
      %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
      %y = load i64, ptr %p
      ret i64 %y
    }";
const CALLS: &str = "
    declare i64 @\"table#$N\"(i64)
    declare i64 @\"add#$N\"(i64)
    define i64 @self(i64 %x) {
      %y = call i64 @\"table#$N\"(i64 %x)
      %z = call i64 @\"add#$N\"(i64 %y)
      ret i64 %z
    }";
const SUM: &str = "
    declare i64 @\"add#$N\"(i64)
    define i64 @self(i64 %n) {
    entry: br label %head
    head: %i = phi i64 [ 0, %entry ], [ %next, %body ]
          %sum = phi i64 [ 0, %entry ], [ %more, %body ]
          %on = icmp slt i64 %i, %n
          br i1 %on, label %body, label %done
    body: %more = call i64 @\"add#$N\"(i64 %sum)
          %next = add i64 %i, 1
          br label %head
    done: ret i64 %sum }";

/// What the method of this name does: number and name in one word.
fn result(word: usize, x: i64) -> i64 {
    let n = (word / 4) as i64;
    let table = |x: i64| [1, 10, 100, n][(x & 3) as usize];
    match word % 4 {
        0 => x + n,
        1 => table(x),
        2 => table(x) + n,
        _ => n * x,
    }
}

static FELL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

inkpot::fallback! {
    unsafe extern "C" fn fallback(word: usize, x: i64) -> i64 {
        FELL.fetch_add(1, Ordering::Relaxed);
        result(word, x)
    }
}

pub struct Programs {
    cache: Cache<Name>,
    tally: Arc<Tally>,
    seed: u64,
}

type Run<'a> = Box<dyn FnOnce() + Send + 'a>;

impl Programs {
    pub fn new(seed: u64) -> Self {
        let texts = NAMES.into_iter().zip([ADD, TABLE, CALLS, SUM]);
        let mut all = Texts::default();
        texts.for_each(|(name, text)| all.insert(name, text));
        let tally = Arc::new(Tally::default());
        let hears = tally.clone();
        let cache = Cache::builder(Falls(all))
            .name("programs")
            .tiers(Tier::defaults().map(|tier| tier.promote_after(200)))
            .polls(true)
            .fallback(fallback as *const ())
            .code_budget(256 << 10)
            .generation_methods(16)
            .quarantine(Quarantine {
                bytes: 64 << 20,
                time: std::time::Duration::MAX,
            })
            .listener(move |event: &Event<'_, Name>| hears.hear(event))
            .build()
            .unwrap();
        Self { cache, tally, seed }
    }

    pub fn threads<'a>(&'a self, stage: &'a Stage) -> Vec<Run<'a>> {
        vec![Box::new(|| self.call(stage)), Box::new(|| self.take(stage))]
    }

    fn call(&self, stage: &Stage) {
        let mut random = Random::new(self.seed ^ 80);
        let me = self.cache.participant("runs programs");
        while !stage.is_over() {
            let _turn = stage.turn();
            let mut guard = me.pin();
            // Some are hot, and rise.
            let word = match random.below(3) {
                0 => random.below(400) as usize,
                _ => random.below(24) as usize,
            };
            let name = format!("{}#{}", NAMES[word % 4], word / 4);
            let handle = text::<Unary>(&self.cache, &name);
            for x in 0..20 {
                let expected = result(word, x);
                let entry = match random.below(20) {
                    0 => handle.get(&mut guard).unwrap(),
                    _ => handle.entry_or_fallback(&guard),
                };
                // SAFETY: all texts here have this type.
                let y = unsafe { entry.call(x) };
                assert_eq!(y, expected, "{name} of {x}");
                self.tally.called();
            }
            match random.below(30) {
                0 => drop(handle.promote()),
                // SAFETY: what is used afterwards is on the stack.
                1 => unsafe { me.safepoint() },
                _ => guard.repin(),
            }
        }
    }

    fn take(&self, stage: &Stage) {
        let mut random = Random::new(self.seed ^ 90);
        while !stage.is_over() {
            let _turn = stage.turn();
            let word = random.below(400) as usize;
            let name = format!("{}#{}", NAMES[word % 4], word / 4);
            match random.below(60) {
                0 => self.cache.seal(),
                1..8 => drop(self.cache.invalidate(&name)),
                8..20 => drop(self.cache.evict(&name)),
                20 => self.cache.ask_for_polls(random.below(2) == 0),
                21 => drop(self.cache.evacuate()),
                _ => std::thread::sleep(std::time::Duration::from_micros(300)),
            }
        }
        self.cache.ask_for_polls(false);
    }

    pub fn check(&self) {
        self.tally
            .fell
            .store(FELL.load(Ordering::Relaxed), Ordering::Relaxed);
        self.tally.check(&self.cache);
    }

    pub fn report(&self) {
        self.tally.report("programs", &self.cache.statistics());
    }

    pub fn finish(self) {
        self.check();
        self.report();
        let s = self.cache.statistics();
        assert!(
            s.compiles > 20 && s.promotions > 0 && FELL.load(Ordering::Relaxed) > 0,
            "{s:#?}"
        );
        wait_until("all is recycled", || {
            self.cache.seal();
            self.cache.evict_all();
            let s = self.cache.statistics();
            s.mapped_code_bytes + s.generations_fallow + s.bytes.unwind == 0
        });
        let s = self.cache.statistics();
        assert_eq!(
            (s.participants, s.methods_resident, s.bytes.contexts),
            (0, 0, 0)
        );
    }
}
