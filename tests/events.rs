//! Events for `tracing`: what they tell, and that who listens cannot do harm.

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inkpot::Cache;
use support::{Calculator, Op, child, method, wait_until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const PATIENCE: Duration = Duration::from_secs(60);

/// An event's fields, its message among them, as text.
type Fields = BTreeMap<&'static str, String>;

struct Reads<'a>(&'a mut Fields);

impl Visit for Reads<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Hands every event on.
struct Listener<F>(F);

impl<F: Fn(&Event<'_>) + Send + Sync + 'static> Subscriber for Listener<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        (self.0)(event);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs a test's body in a process of its own, in which everybody hears what `listen` is told.
fn with_listener(
    test: &str,
    listen: impl Fn(&Event<'_>) + Send + Sync + 'static,
    body: impl FnOnce(),
) {
    let ended = child::run(test, PATIENCE, || {
        tracing::subscriber::set_global_default(Listener(listen)).unwrap();
        body();
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

/// Compiles, evicts and recycles one generation.
fn one_generation(cache: &Cache<Op>, keys: std::ops::Range<i64>) {
    let me = cache.participant("test");
    let before = cache.statistics().generations_recycled;
    for n in keys {
        let add = method(cache, &Op::Add(n));
        // SAFETY: the type is right.
        assert_eq!(unsafe { add.get(&mut me.pin()).unwrap().call(1) }, n + 1);
    }
    cache.evict_all();
    cache.seal();
    wait_until("it is recycled", || {
        cache.statistics().generations_recycled == before + 1
    });
}

#[test]
fn events_tell_of_methods_and_generations() {
    let heard = Arc::new(Mutex::new(Vec::<Fields>::new()));
    let hears = heard.clone();
    let listen = move |event: &Event<'_>| {
        let of = event.metadata();
        assert_eq!((of.target(), *of.level()), ("inkpot", Level::DEBUG));
        let mut fields = Fields::new();
        event.record(&mut Reads(&mut fields));
        hears.lock().unwrap().push(fields);
    };
    with_listener("events_tell_of_methods_and_generations", listen, || {
        let cache = Cache::builder(Calculator).build().unwrap();
        let me = cache.participant("test");
        let refuse = method(&cache, &Op::Refuse);
        assert!(refuse.get(&mut me.pin()).is_err());
        let add = method(&cache, &Op::Add(7));
        add.get(&mut me.pin()).unwrap();
        drop(cache.invalidate(&Op::Add(7)));
        one_generation(&cache, 7..8);
        wait_until("the last is told", || heard.lock().unwrap().len() >= 7);

        let heard = heard.lock().unwrap();
        let told: Vec<&str> = heard.iter().map(|fields| &*fields["message"]).collect();
        let expected = [
            "failed",
            "published",
            "unlinked",
            "published",
            "unlinked",
            "dead",
            "recycled",
        ];
        assert_eq!(told, expected, "{heard:#?}");
        assert_eq!(heard[0]["key"], "Refuse");
        assert!(heard[0]["error"].contains("refused by the front end"));
        for n in 1..5 {
            assert_eq!(heard[n]["key"], "Add(7)");
        }
        assert!(heard[1]["bytes"].parse::<u64>().unwrap() > 0);
        assert_eq!(heard[2]["cause"], "Invalidated");
        assert_eq!(heard[4]["cause"], "Evicted");
        assert!(heard[5]["bytes"].parse::<u64>().unwrap() >= 16 << 10);
        assert!(heard[6].contains_key("waited"));
        for fields in &heard[1..] {
            assert_eq!(fields["generation"], heard[1]["generation"]);
        }
    });
}

/// On the threads of the cache above all: the reclaimer goes on, and so do the accounts.
#[test]
fn a_subscriber_that_panics_breaks_nothing() {
    let listen = |_: &Event<'_>| std::panic::resume_unwind(Box::new("a panic on purpose"));
    with_listener("a_subscriber_that_panics_breaks_nothing", listen, || {
        let cache = Cache::builder(Calculator)
            .retry_after(Duration::ZERO, Duration::ZERO)
            .build()
            .unwrap();
        let me = cache.participant("test");
        for round in 0..10 {
            assert!(method(&cache, &Op::Refuse).get(&mut me.pin()).is_err());
            one_generation(&cache, 10 * round..10 * round + 10);
        }
        // Records go a moment after their code.
        wait_until("nothing is left but a spare context", || {
            let s = cache.statistics();
            s.contexts == 1 && s.bytes.charged == s.bytes.spare_contexts
        });
        let s = cache.statistics();
        let generations = [
            s.generations_open,
            s.generations_sealed,
            s.generations_dead,
            s.generations_fallow,
        ];
        assert_eq!(generations, [0; 4], "{s:#?}");
        assert_eq!((s.compiles, s.failures, s.evictions), (100, 10, 100));
        assert_eq!((s.methods_resident, s.methods_known), (0, 0));
        assert_eq!(
            (s.bytes.charged, s.bytes.retired),
            (s.bytes.spare_contexts, 0)
        );
        assert_eq!((s.mapped_code_bytes, s.bytes.unwind), (0, 0));
    });
}
