//! Changes come to their end, whatever becomes of the call that asks for them: a caller that goes away, or whose time is over, must not
//! leave a change that the audit log has as failed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Code;

use super::{Call, ended};
use crate::api::fault::{ApiError, Fault};
use crate::api::passage::Passage;
use crate::audit::Event;
use crate::vault::VaultError;

/// Where changes go on that their calls have left.
#[derive(Clone)]
pub(crate) struct Orphans {
    /// None outside of a runtime, where nothing is served.
    runtime: Option<Handle>,
    count: Arc<watch::Sender<usize>>,
}

/// One of them is under way for as long as this is there.
struct Orphan(Arc<watch::Sender<usize>>);

impl Orphans {
    /// They go on on this thread's runtime, which is to outlive the workers'.
    pub(super) fn here() -> Self {
        Self {
            runtime: Handle::try_current().ok(),
            count: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Waits until none is under way.
    pub(crate) async fn all_done(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn take(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            self.count.send_modify(|count| *count += 1);
            let orphan = Orphan(Arc::clone(&self.count));
            runtime.spawn(async move {
                let _orphan = orphan;
                work.await;
            });
        }
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Call {
    /// Does what was announced, and notes what came of it. If the call is dropped meanwhile, it goes on, and has a line of its own in
    /// the log when it is over.
    pub(in crate::api) async fn change<T: Send + 'static>(
        &mut self,
        orphans: &Orphans,
        work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
        note: fn(&mut Self, &T),
    ) -> Result<T, ApiError> {
        let mut under_way = UnderWay {
            call: self,
            orphans,
            work: Some(Box::pin(work)),
            note,
        };
        let done = poll_fn(|context| match &mut under_way.work {
            Some(work) => work.as_mut().poll(context),
            None => Poll::Pending,
        });
        let done = done.await;
        under_way.work = None;
        if let Ok(done) = &done {
            note(under_way.call, done);
        }
        Ok(done?)
    }

    /// The same call for what goes on without it.
    fn left(&self) -> Self {
        let mut left = self.with(self.about.clone());
        left.intent = self.intent;
        left.is_over = true;
        left
    }

    /// Lists what came of a change that nobody waits for any more.
    fn tell(&self, outcome: Result<(), &ApiError>) {
        let (code, reason) = match outcome.map_err(Fault::from) {
            Ok(()) => (Code::Ok, None),
            Err(fault) => (fault.code, Some(fault.reason)),
        };
        self.log(code, reason.unwrap_or_default());
        self.audit.note(&ended(self.entry(Event::Call), code, reason));
    }
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, VaultError>> + Send>>;

/// A change that is under way for as long as its call is there.
struct UnderWay<'a, T: Send + 'static> {
    call: &'a mut Call,
    orphans: &'a Orphans,
    /// None once it is done.
    work: Option<Work<T>>,
    note: fn(&mut Call, &T),
}

impl<T: Send + 'static> Drop for UnderWay<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let (mut call, note) = (self.call.left(), self.note);
        // Who asks for changes and goes, again and again, must not have more under way than calls.
        let place = self.call.passage.as_ref().and_then(Passage::take_place);
        self.orphans.take(async move {
            let _place = place;
            match work.await {
                Ok(done) => {
                    note(&mut call, &done);
                    call.tell(Ok(()));
                }
                Err(error) => call.tell(Err(&error.into())),
            }
        });
    }
}
