//! A backend that watches the engine, and what all threads of a run know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use inkpot::__simulation::world;
use inkpot::{Assumed, Assumption, Backend, Batch, Builder, Cache, Error, Fallback};

use crate::synthetic::{Code, How, Synthetic};

/// What all threads of a run know.
pub struct Shared {
    pub methods: Vec<Code>,
    /// By method: what is emitted now.
    versions: Vec<AtomicU32>,
    /// By method: what was emitted before this version can be loaded no more.
    floors: Vec<AtomicU32>,
    compiling: std::sync::Mutex<BTreeSet<usize>>,
    /// Each method relies on one of these: see [`Shared::relies`].
    assumptions: [Assumption; 2],
}

impl Shared {
    /// These methods, and all that they call.
    pub fn new(methods: impl IntoIterator<Item = Code>) -> Arc<Self> {
        let mut all = Vec::new();
        for method in methods {
            let mut next = Some(method);
            while let Some(method) = next.filter(|method| !all.contains(method)) {
                next = method.callee();
                all.push(method);
            }
        }
        let zeros = || all.iter().map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self {
            versions: zeros(),
            floors: zeros(),
            compiling: std::sync::Mutex::default(),
            assumptions: [Assumption::new(), Assumption::new()],
            methods: all,
        })
    }

    fn index(&self, code: &Code) -> usize {
        let index = self.methods.iter().position(|method| method == code);
        index.expect("no other methods are asked for")
    }

    /// Whatever is loaded from now on is at least as new as this.
    pub fn floors(&self) -> Vec<u32> {
        let load = |floor: &AtomicU32| floor.load(Ordering::SeqCst);
        self.floors.iter().map(load).collect()
    }

    /// A method of this stamp runs, which was loaded when the floors were these.
    pub fn runs(&self, stamp: u32, floors: &[u32]) {
        let (index, version) = ((stamp >> 16) as usize, stamp & 0xffff);
        world::note(u64::from(stamp));
        if version < floors[index] {
            let method = self.methods[index];
            let floor = floors[index];
            world::broken(format!(
                "{method:?} of version {version} was called, after all before {floor} had been invalidated"
            ));
        }
    }

    /// Has a method be another from now on, and says so to the cache.
    pub fn invalidate(&self, index: usize, cache: &Cache<Code>) -> inkpot::Invalidation {
        let version = self.versions[index].fetch_add(1, Ordering::SeqCst) + 1;
        let token = cache.invalidate(&self.methods[index]);
        self.floors[index].fetch_max(version, Ordering::SeqCst);
        token
    }

    /// What a method relies on.
    fn relies(&self, index: usize) -> usize {
        index % self.assumptions.len()
    }

    /// Has all methods that rely on an assumption be others from now on, and lets it fall.
    pub fn fall(&self, which: usize) -> inkpot::Invalidation {
        let relying = (0..self.methods.len()).filter(|&index| self.relies(index) == which);
        let next = |index: usize| {
            let version = self.versions[index].fetch_add(1, Ordering::SeqCst) + 1;
            (index, version)
        };
        let fallen: Vec<(usize, u32)> = relying.map(next).collect();
        let token = self.assumptions[which].invalidate();
        for (index, version) in fallen {
            self.floors[index].fetch_max(version, Ordering::SeqCst);
        }
        token
    }
}

/// `Synthetic`, and what it sees of the engine.
pub struct Watched {
    inner: Synthetic,
    shared: Arc<Shared>,
}

/// Says on which thread it ends.
pub struct Context {
    inner: crate::synthetic::Context,
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = &self.inner;
        world::not_inside("a context was disposed of");
    }
}

impl Watched {
    pub fn builder(shared: &Arc<Shared>, groups: u32) -> Builder<Code> {
        let stamps = shared.clone();
        let stamp = move |code: &Code| {
            let index = stamps.index(code);
            world::point();
            let version = stamps.versions[index].load(Ordering::SeqCst);
            (index as u32) << 16 | version
        };
        let relying = shared.clone();
        let relies = move |code: &Code, assume: &mut dyn FnMut(&Assumption) -> Assumed| {
            let which = relying.relies(relying.index(code));
            assume(&relying.assumptions[which]);
        };
        Cache::with_backend(Self {
            inner: Synthetic {
                groups,
                relies: Some(Arc::new(relies)),
                stamp: Some(Arc::new(stamp)),
                ..Synthetic::default()
            },
            shared: shared.clone(),
        })
    }
}

/// What a batch compiles, until this is dropped.
struct Compiling<'a>(&'a Shared, Vec<usize>);

impl<'a> Compiling<'a> {
    fn begin(shared: &'a Shared, batch: &Batch<'_, Code>) -> Self {
        let all: Vec<usize> = (0..batch.len())
            .map(|i| shared.index(batch.key(i)))
            .collect();
        for &index in &all {
            if !shared.compiling.lock().unwrap().insert(index) {
                let method = shared.methods[index];
                world::broken(format!("{method:?} is compiled twice at once"));
            }
        }
        Self(shared, all)
    }
}

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        let mut compiling = self.0.compiling.lock().unwrap();
        compiling.retain(|index| !self.1.contains(index));
    }
}

impl Backend<Code> for Watched {
    type Context = Context;

    fn open(&self) -> Result<(Context, u64), Error> {
        world::point();
        let (inner, bytes) = self.inner.open()?;
        Ok((Context { inner }, bytes))
    }

    fn compile(
        &self,
        context: &mut Context,
        batch: &mut Batch<'_, Code>,
    ) -> Result<Vec<u8>, Error> {
        let _compiling = Compiling::begin(&self.shared, batch);
        shuttle::thread::yield_now();
        let object = self.inner.compile(&mut context.inner, batch);
        shuttle::thread::yield_now();
        object
    }

    fn group(&self, key: &Code) -> u64 {
        self.inner.group(key)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        self.inner.resolve(symbol)
    }

    fn fallback(&self, key: &Code) -> Fallback {
        Fallback::with_word(self.shared.index(key))
    }
}

/// Whether a method can be compiled.
pub fn compiles(code: &Code) -> bool {
    !matches!(
        code.how,
        How::Refuse | How::GiveUp | How::Panic | How::Unresolved
    )
}
