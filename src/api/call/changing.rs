//! Changes come to their end, whatever becomes of the call that asks for them: a caller that goes away, or whose time is over, must not
//! leave a change that the audit log has as failed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;
use tonic::Code;

use super::{Call, ended};
use crate::api::fault::{ApiError, Fault};
use crate::audit::Event;
use crate::store::StoreError;
use crate::vault::VaultError;

impl Call {
    /// Does what was announced, and notes what came of it. If the call is dropped meanwhile, it goes on, and has a line of its own in
    /// the log when it is over.
    pub(in crate::api) async fn change<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
        note: fn(&mut Self, &T),
    ) -> Result<T, ApiError> {
        let mut under_way = UnderWay {
            call: self,
            work: Some(tokio::spawn(work)),
            note,
        };
        let done = poll_fn(|context| match &mut under_way.work {
            Some(work) => Pin::new(work).poll(context),
            None => Poll::Pending,
        });
        let done = done.await;
        under_way.work = None;
        // The runtime ends.
        let done = done.map_err(|_| VaultError::from(StoreError::Closed))?;
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

/// A change that is under way for as long as its call is there.
struct UnderWay<'a, T: Send + 'static> {
    call: &'a mut Call,
    /// None once it is done.
    work: Option<JoinHandle<Result<T, VaultError>>>,
    note: fn(&mut Call, &T),
}

impl<T: Send + 'static> Drop for UnderWay<'_, T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let (mut call, note) = (self.call.left(), self.note);
        tokio::spawn(async move {
            match work.await {
                Ok(Ok(done)) => {
                    note(&mut call, &done);
                    call.tell(Ok(()));
                }
                Ok(Err(error)) => call.tell(Err(&error.into())),
                // The runtime ends: the line of the call says that it did not come to its end.
                Err(_) => {}
            }
        });
    }
}
