//! One thread, a queue of woken tasks, and timers.

use crate::contain::contained;
use futures_util::future::BoxFuture;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub(crate) struct Executor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    woken: VecDeque<Arc<Task>>,
    /// Every task that is not done, so that the end can drop them all.
    live: HashMap<u64, Arc<Task>>,
    timers: BTreeMap<(Instant, u64), Waker>,
    next_id: u64,
    closing: bool,
}

struct Task {
    id: u64,
    future: Mutex<Option<BoxFuture<'static, ()>>>,
    /// In `woken` already.
    queued: AtomicBool,
    shared: Weak<Shared>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(shared) = self.shared.upgrade() {
            let mut inner = shared.lock();
            if !inner.closing {
                inner.woken.push_back(self);
                drop(inner);
                shared.changed.notify_one();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(task) = self.next() {
            task.queued.store(false, Ordering::Release);
            let waker = Waker::from(task.clone());
            let mut future = task.future.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(running) = future.as_mut() else { continue };
            let poll = contained(|| running.as_mut().poll(&mut Context::from_waker(&waker)));
            if !matches!(poll, Ok(Poll::Pending)) {
                let done = future.take();
                drop(future);
                let _ = contained(|| drop(done));
                self.lock().live.remove(&task.id);
            }
        }
        let live = std::mem::take(&mut self.lock().live);
        for task in live.into_values() {
            let future = task.future.lock().unwrap_or_else(PoisonError::into_inner).take();
            let _ = contained(|| drop(future));
        }
    }

    /// The next task that can go on; `None` at the end.
    fn next(&self) -> Option<Arc<Task>> {
        let mut inner = self.lock();
        loop {
            if inner.closing {
                return None;
            }
            let now = Instant::now();
            let later = inner.timers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut inner.timers, later);
            if !due.is_empty() {
                drop(inner);
                due.into_values().for_each(Waker::wake);
                inner = self.lock();
                continue;
            }
            if let Some(task) = inner.woken.pop_front() {
                return Some(task);
            }
            inner = match inner.timers.keys().next() {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some((at, _)) => {
                    let wait = at.saturating_duration_since(now);
                    self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Executor {
    pub(crate) fn start(name: &str, on_thread: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { inner: Mutex::default(), changed: Condvar::new() });
        let running = shared.clone();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            on_thread();
            running.run();
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// After the end a task is dropped at once.
    pub(crate) fn spawn(&self, future: BoxFuture<'static, ()>) {
        let mut inner = self.shared.lock();
        if inner.closing {
            drop(inner);
            return;
        }
        inner.next_id += 1;
        let (id, shared) = (inner.next_id, Arc::downgrade(&self.shared));
        let task = Arc::new(Task { id, future: Mutex::new(Some(future)), queued: AtomicBool::new(false), shared });
        inner.live.insert(id, task.clone());
        drop(inner);
        task.wake();
    }

    #[cfg(not(feature = "tokio"))]
    pub(crate) fn sleeper(&self) -> Sleeper {
        Sleeper(Arc::downgrade(&self.shared))
    }

    /// Runs `work` here and now.
    #[cfg(not(feature = "tokio"))]
    pub(crate) fn within(&self, work: impl FnOnce()) {
        let _ = self;
        work();
    }

    /// Drops every task, ends the thread. Waits for code that blocks.
    pub(crate) fn shut_down(&self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Waits by the executor's own timers.
#[derive(Clone)]
pub(crate) struct Sleeper(Weak<Shared>);

impl Sleeper {
    #[cfg(test)]
    fn of(executor: &Executor) -> Self {
        Self(Arc::downgrade(&executor.shared))
    }

    #[cfg_attr(feature = "tokio", allow(dead_code))]
    pub(crate) fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { at: Instant::now() + time, key: None, shared: self.0.clone() })
    }
}

struct Sleep {
    at: Instant,
    key: Option<u64>,
    shared: Weak<Shared>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        // Without its executor a sleep never ends; nobody is left who would poll it.
        let Some(shared) = self.shared.upgrade() else { return Poll::Pending };
        let mut inner = shared.lock();
        let key = *self.key.get_or_insert_with(|| {
            inner.next_id += 1;
            inner.next_id
        });
        inner.timers.insert((self.at, key), cx.waker().clone());
        drop(inner);
        shared.changed.notify_one();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(shared)) = (self.key, self.shared.upgrade()) {
            shared.lock().timers.remove(&(self.at, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn executor() -> Executor {
        Executor::start("plain-test", || {}).unwrap()
    }

    #[test]
    fn tasks_run_wake_each_other_and_a_panic_stays_in_its_task() {
        let executor = executor();
        let (tell, told) = mpsc::channel();
        let (send, receive) = crate::slot::slot();
        let first = tell.clone();
        executor.spawn(Box::pin(async move { first.send(receive.await).unwrap() }));
        executor.spawn(Box::pin(async { panic!("told to") }));
        executor.spawn(Box::pin(async move { send.send(7) }));
        assert_eq!(told.recv().unwrap(), Some(7));
        let sleeper = Sleeper::of(&executor);
        for ms in [30, 1, 15] {
            let (tell, sleep) = (tell.clone(), sleeper.sleep(Duration::from_millis(ms)));
            executor.spawn(Box::pin(async move {
                sleep.await;
                tell.send(Some(ms)).unwrap();
            }));
        }
        assert_eq!([told.recv(), told.recv(), told.recv()], [Ok(Some(1)), Ok(Some(15)), Ok(Some(30))]);
    }

    #[test]
    fn the_end_drops_every_task_and_the_thread() {
        struct Tell(mpsc::Sender<thread::ThreadId>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().id());
            }
        }
        let executor = executor();
        let (tell, told) = mpsc::channel();
        let (started, starts) = mpsc::channel();
        for _ in 0..10 {
            let (tell, started) = (Tell(tell.clone()), started.clone());
            executor.spawn(Box::pin(async move {
                let _tell = tell;
                started.send(()).unwrap();
                std::future::pending::<()>().await;
            }));
        }
        (0..10).for_each(|_| starts.recv().unwrap());
        executor.shut_down();
        assert_eq!(told.try_iter().count(), 10, "all before shut_down returned");
        executor.spawn(Box::pin(async move { drop(tell) }));
        executor.shut_down();
    }
}
