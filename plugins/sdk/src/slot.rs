//! One value from one place to another: how an answer of the host reaches the future that waits for it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

struct Inner<T> {
    value: Option<T>,
    gone: bool,
    waker: Option<Waker>,
}

/// Sends once. Dropped unsent, the other side gets `None`.
pub(crate) struct Sender<T>(Arc<Mutex<Inner<T>>>);
pub(crate) struct Receiver<T>(Arc<Mutex<Inner<T>>>);

pub(crate) fn slot<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Arc::new(Mutex::new(Inner { value: None, gone: false, waker: None }));
    (Sender(inner.clone()), Receiver(inner))
}

fn lock<T>(inner: &Mutex<Inner<T>>) -> MutexGuard<'_, Inner<T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Sender<T> {
    pub(crate) fn send(self, value: T) {
        lock(&self.0).value = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut inner = lock(&self.0);
            inner.gone = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Receiver<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inner = lock(&self.0);
        if inner.gone {
            return Poll::Ready(inner.value.take());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
