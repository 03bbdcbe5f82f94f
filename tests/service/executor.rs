//! A small executor: what is woken is polled, on the thread that runs it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
struct Woken {
    numbers: Mutex<VecDeque<usize>>,
    changed: Condvar,
}

struct Wakes {
    number: usize,
    woken: Arc<Woken>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.woken.numbers.lock().unwrap().push_back(self.number);
        self.woken.changed.notify_one();
    }
}

#[derive(Default)]
pub struct Executor {
    tasks: Vec<Option<Task>>,
    woken: Arc<Woken>,
    pub polls: usize,
}

impl Executor {
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.woken
            .numbers
            .lock()
            .unwrap()
            .push_back(self.tasks.len());
        self.tasks.push(Some(Box::pin(task)));
    }

    /// Polls what is woken, and does not wait for more. True when all tasks have ended.
    pub fn poll(&mut self) -> bool {
        loop {
            let number = self.woken.numbers.lock().unwrap().pop_front();
            match number {
                Some(number) => self.poll_one(number),
                None => return self.tasks.iter().all(Option::is_none),
            }
        }
    }

    /// Runs until all tasks have ended.
    pub fn run(&mut self) {
        while !self.poll() {
            let mut numbers = self.woken.numbers.lock().unwrap();
            while numbers.is_empty() {
                numbers = self.woken.changed.wait(numbers).unwrap();
            }
        }
    }

    fn poll_one(&mut self, number: usize) {
        let waker = Waker::from(Arc::new(Wakes {
            number,
            woken: self.woken.clone(),
        }));
        self.polls += 1;
        if let Some(task) = &mut self.tasks[number]
            && task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            self.tasks[number] = None;
        }
    }
}
