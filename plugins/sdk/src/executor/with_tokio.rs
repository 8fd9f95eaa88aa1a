//! A tokio runtime of the instance's own.

use futures_util::future::BoxFuture;
use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) struct Executor {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

/// Waits by the runtime's timers.
#[derive(Clone)]
pub(crate) struct Sleeper(Handle);

impl Executor {
    pub(crate) fn start(name: &str, on_thread: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .on_thread_start(on_thread)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }

    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    pub(crate) fn sleeper(&self) -> Sleeper {
        Sleeper(self.handle.clone())
    }

    /// Runs `work` here and now, where the runtime's timers and sockets can be found.
    pub(crate) fn within(&self, work: impl FnOnce()) {
        let _entered = self.handle.enter();
        work();
    }

    /// Drops every task, ends every thread. Waits for code that blocks.
    pub(crate) fn shut_down(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(runtime);
    }
}

impl Sleeper {
    pub(crate) fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        let _entered = self.0.enter();
        Box::pin(tokio::time::sleep(time))
    }
}
