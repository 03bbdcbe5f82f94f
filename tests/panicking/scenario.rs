//! Without LLVM: keys, a backend, a policy, a listener and wakers that may panic.

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context as TaskContext, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use inkpot::evict::{Cost, Lru, MethodId, Policy};
use inkpot::{Backend, Batch, Cache, Error, Event, Handle, Reclaimer};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

use super::support::Unary;
use super::{each_call_panics, endure, persist, trip};

struct Key {
    n: u32,
    /// Made by the cache. (Where the drop of an argument panics, Rust may leak what was returned.)
    is_copy: bool,
}

/// A key to ask with.
fn key(n: u32) -> Key {
    Key { n, is_copy: false }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        trip("Key::clone");
        Self {
            n: self.n,
            is_copy: true,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        trip("Key::hash");
        self.n.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        trip("Key::eq");
        self.n == other.n
    }
}

impl Eq for Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        trip("Key::fmt");
        write!(f, "{}", self.n)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if self.is_copy {
            trip("Key::drop");
        }
    }
}

/// Methods that add their number.
struct Adders {
    contexts: Arc<AtomicI64>,
}

struct Context(Arc<AtomicI64>);

impl Drop for Context {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        trip("Context::drop");
    }
}

impl Backend<Key> for Adders {
    type Context = Context;

    fn open(&self) -> Result<(Context, u64), Error> {
        trip("Backend::open");
        self.contexts.fetch_add(1, Ordering::SeqCst);
        Ok((Context(self.contexts.clone()), 100))
    }

    fn compile(&self, _: &mut Context, batch: &mut Batch<'_, Key>) -> Result<Vec<u8>, Error> {
        trip("Backend::compile");
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        for i in 0..batch.len() {
            if !batch.is_wanted(i) {
                continue;
            }
            let n = batch.key(i).n;
            if n == 13 {
                batch.fail(
                    i,
                    Error::Codegen {
                        method: String::new(),
                        message: "unlucky".to_owned(),
                    },
                );
                continue;
            }
            let name = batch.symbol(i).into_bytes();
            let section = [b".text.", &name[..]].concat();
            let text = object.add_section(Vec::new(), section, SectionKind::Text);
            let mut code = vec![0x48, 0x8d, 0x87]; // lea rax, [rdi + n]; ret
            code.extend(n.to_le_bytes());
            code.push(0xc3);
            code.resize(5000, 0xcc);
            object.append_section_data(text, &code, 16);
            object.add_symbol(Symbol {
                name,
                value: 0,
                size: 8,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        Ok(object.write().expect("it is well formed"))
    }

    fn group(&self, key: &Key) -> u64 {
        trip("Backend::group");
        u64::from(key.n % 2)
    }

    fn fallback(&self, _: &Key) -> inkpot::Fallback {
        trip("Backend::fallback");
        inkpot::Fallback::default()
    }
}

struct Order(Lru);

impl Policy for Order {
    fn insert(&mut self, id: MethodId, cost: Cost) {
        self.0.insert(id, cost);
        trip("Policy::insert");
    }

    fn hit(&mut self, id: MethodId) {
        trip("Policy::hit");
        self.0.hit(id);
    }

    fn remove(&mut self, id: MethodId) {
        self.0.remove(id);
        trip("Policy::remove");
    }

    fn victim(&mut self) -> Option<MethodId> {
        trip("Policy::victim");
        self.0.victim()
    }

    fn len(&self) -> usize {
        trip("Policy::len");
        self.0.len()
    }

    fn name(&self) -> &'static str {
        trip("Policy::name");
        "order"
    }
}

/// A waker each of whose functions may panic.
fn waker() -> Waker {
    const NONE: *const () = std::ptr::null();
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        |_| {
            trip("Waker::clone");
            RawWaker::new(NONE, &TABLE)
        },
        |_| trip("Waker::wake"),
        |_| trip("Waker::wake_by_ref"),
        |_| trip("Waker::drop"),
    );
    // SAFETY: there is no data.
    unsafe { Waker::from_raw(RawWaker::new(NONE, &TABLE)) }
}

fn handle(cache: &Cache<Key>, n: u32) -> Handle<Key, Unary> {
    // SAFETY: all methods have this type.
    persist(|| unsafe { cache.method(&key(n)) })
}

fn life(threads: bool) {
    let contexts = Arc::new(AtomicI64::new(0));
    let build = || {
        let adders = Adders {
            contexts: contexts.clone(),
        };
        let builder = Cache::with_backend(adders)
            .policy(Order(Lru::new()))
            .generation_methods(3)
            .code_budget(64 << 10)
            .retry_after(Duration::ZERO, Duration::ZERO)
            .listener(|event: &Event<'_, Key>| {
                if !matches!(event, Event::Lost { .. }) {
                    trip("Listener::event");
                }
            });
        match threads {
            true => builder.build(),
            false => builder.workers(0).reclaimer(Reclaimer::Manual).build(),
        }
    };
    let cache = persist(build);
    let me = cache.participant("test");
    let call = |handle: &Handle<Key, Unary>, n: u32| {
        // SAFETY: the type is right.
        let call = || handle.get(&mut me.pin()).map(|f| unsafe { f.call(1) });
        assert_eq!(persist(call), 1 + i64::from(n));
    };
    let handles: Vec<_> = (0..12).map(|n| handle(&cache, n)).collect();
    for (n, handle) in handles.iter().enumerate() {
        call(handle, n as u32);
    }
    // What is resident has the right code, whatever became of the others.
    let check = || {
        let guard = me.pin();
        for (n, handle) in handles.iter().enumerate() {
            if let Some(entry) = handle.entry(&guard) {
                // SAFETY: the type is right.
                assert_eq!(unsafe { entry.call(1) }, 1 + n as i64);
            }
        }
    };
    check();
    let unlucky = handle(&cache, 13);
    endure(|| unlucky.get(&mut me.pin()).map(drop).unwrap_err());
    endure(|| cache.evict(&key(11)));
    endure(|| drop(cache.invalidate(&key(10))));
    endure(|| {
        drop(cache.invalidate_if(|key| {
            trip("the closure of invalidate_if");
            key.n == 9
        }))
    });
    endure(|| me.pin().blocking(|| trip("the closure of blocking")));
    check();
    // By wakers, and by none who waits.
    {
        let waker = waker();
        let mut compiled = pin!(handles[9].compiled());
        let mut task = TaskContext::from_waker(&waker);
        for _ in 0..200 {
            if let Some(Poll::Ready(_)) = endure(|| compiled.as_mut().poll(&mut task)) {
                break;
            }
            match threads {
                true => std::thread::sleep(Duration::from_micros(200)),
                false => drop(endure(|| cache.compile_some(8))),
            }
        }
        endure(|| drop(waker));
    }
    endure(|| handles[8].request());
    endure(|| drop(handles[7].keep()));
    for n in 20..23 {
        let short = handle(&cache, n);
        call(&short, n);
        endure(|| drop(short));
    }
    endure(|| cache.compact());
    check();
    endure(|| cache.seal());
    endure(|| cache.set_code_budget(32 << 10));
    endure(|| cache.statistics());
    endure(|| cache.occupancy());
    for (n, handle) in handles.iter().enumerate().rev() {
        call(handle, n as u32);
    }
    persist(|| {
        cache.seal();
        cache.evict_all();
        Ok::<_, ()>(())
    });
    let gone = || {
        cache.seal();
        cache.evict_all();
        if !threads {
            cache.maintain();
        }
        cache.statistics().mapped_code_bytes == 0
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while endure(gone) != Some(true) {
        assert!(
            std::time::Instant::now() < deadline,
            "{:#?} {:#?}",
            cache.statistics(),
            cache.occupancy()
        );
    }
    endure(|| drop((handles, unlucky)));
    drop(me);
    endure(|| drop(cache));
    assert_eq!(contexts.load(Ordering::SeqCst), 0, "contexts are left");
}

#[test]
fn by_hand() {
    each_call_panics("scenario::by_hand", || life(false));
}

#[test]
fn with_threads() {
    each_call_panics("scenario::with_threads", || life(true));
}
