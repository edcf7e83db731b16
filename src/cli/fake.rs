//! A server for tests: it answers what the test says, in that order, and remembers what it was asked.

use std::any::Any;
use std::sync::{Arc, Mutex};

use clap::Parser;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tresor::pb::v1::credential_admin_server::{CredentialAdmin, CredentialAdminServer};
use tresor::pb::v1::credential_resolver_server::{CredentialResolver, CredentialResolverServer};
use tresor::pb::v1::*;

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::output::Output;
use super::{Cli, Command, call};

/// The server. Its clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    answers: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
    questions: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
}

/// What came of running a command line.
pub(crate) struct Ran {
    pub(crate) result: Result<Exit, Failure>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Fake {
    /// Answers the next question of its kind like this.
    pub(crate) fn will(self, answer: impl Send + 'static) -> Self {
        self.answers.lock().unwrap().push(Box::new(answer));
        self
    }

    /// Refuses the next question that would get an answer of the type `A`.
    pub(crate) fn will_refuse<A: Send + 'static>(self, status: Status) -> Self {
        self.will(Err::<A, Status>(status))
    }

    /// The questions of one kind, the first one first.
    pub(crate) fn asked<Q: Clone + 'static>(&self) -> Vec<Q> {
        let questions = self.questions.lock().unwrap();
        questions
            .iter()
            .filter_map(|question| question.downcast_ref::<Q>())
            .cloned()
            .collect()
    }

    /// Runs a client's command line against this server.
    pub(crate) async fn run(&self, line: &str) -> Ran {
        self.run_with(line, async |command, connection, output| {
            call(command, connection, output).await
        })
        .await
    }

    /// The same, for a test that does part of the work itself.
    pub(crate) async fn run_with(
        &self,
        line: &str,
        work: impl AsyncFnOnce(super::ClientCommand, &Connection, &mut Output) -> Result<Exit, Failure>,
    ) -> Ran {
        let server = self.serve().await;
        let words = ["tresor"]
            .into_iter()
            .chain(line.split(' '))
            .chain(["--server", &server]);
        let cli = Cli::try_parse_from(words).unwrap();
        let Command::Client(command) = cli.command else {
            panic!("{line} calls no server");
        };
        let (mut output, stdout, stderr) = Output::captured(cli.output);
        let connection = cli.connection.open().unwrap();
        let result = work(command, &connection, &mut output).await;
        Ran {
            result,
            stdout: stdout.text(),
            stderr: stderr.text(),
        }
    }

    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(CredentialAdminServer::new(self.clone()))
            .add_service(CredentialResolverServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    fn answer<Q: Send + 'static, A: 'static>(&self, question: Request<Q>) -> Result<Response<A>, Status> {
        self.questions.lock().unwrap().push(Box::new(question.into_inner()));
        let mut answers = self.answers.lock().unwrap();
        let Some(next) = answers
            .iter()
            .position(|answer| answer.is::<A>() || answer.is::<Result<A, Status>>())
        else {
            return Err(Status::unimplemented("this test has no answer"));
        };
        match answers.remove(next).downcast::<A>() {
            Ok(answer) => Ok(Response::new(*answer)),
            Err(refusal) => refusal.downcast::<Result<A, Status>>().unwrap().map(Response::new),
        }
    }
}

macro_rules! answering {
    ($service:ident { $($extra:tt)* } $($method:ident: $question:ident -> $answer:ty),+) => {
        #[tonic::async_trait]
        impl $service for Fake {
            $($extra)*
            $(async fn $method(&self, question: Request<$question>) -> Result<Response<$answer>, Status> {
                self.answer(question)
            })+
        }
    };
}

answering!(CredentialAdmin {
        type ImportCredentialsStream = tokio_stream::Empty<Result<ImportCredentialsResponse, Status>>;

        async fn import_credentials(
            &self,
            _: Request<tonic::Streaming<ImportCredentialsRequest>>,
        ) -> Result<Response<Self::ImportCredentialsStream>, Status> {
            Err(Status::unimplemented("this test has no answer"))
        }
    }
    list_providers: ListProvidersRequest -> ListProvidersResponse,
    put_credential: PutCredentialRequest -> PutCredentialResponse,
    get_credential: GetCredentialRequest -> GetCredentialResponse,
    list_credentials: ListCredentialsRequest -> ListCredentialsResponse,
    set_credential_state: SetCredentialStateRequest -> SetCredentialStateResponse,
    delete_credential: DeleteCredentialRequest -> DeleteCredentialResponse,
    undelete_credential: UndeleteCredentialRequest -> UndeleteCredentialResponse,
    purge_credential: PurgeCredentialRequest -> PurgeCredentialResponse,
    list_credential_versions: ListCredentialVersionsRequest -> ListCredentialVersionsResponse,
    rollback_credential: RollbackCredentialRequest -> RollbackCredentialResponse,
    set_assignment: SetAssignmentRequest -> SetAssignmentResponse,
    get_assignment: GetAssignmentRequest -> GetAssignmentResponse,
    list_assignments: ListAssignmentsRequest -> ListAssignmentsResponse,
    explain_resolution: ExplainResolutionRequest -> ExplainResolutionResponse,
    check_coverage: CheckCoverageRequest -> CheckCoverageResponse,
    verify_credential: VerifyCredentialRequest -> VerifyCredentialResponse
);

answering!(CredentialResolver { type WatchChangesStream = tokio_stream::Empty<Result<WatchChangesResponse, Status>>; }
    resolve_for_order: ResolveForOrderRequest -> ResolveForOrderResponse,
    resolve_many_for_order: ResolveManyForOrderRequest -> ResolveManyForOrderResponse,
    watch_changes: WatchChangesRequest -> Self::WatchChangesStream,
    get_signing_keys: GetSigningKeysRequest -> GetSigningKeysResponse
);
