//! The methods as gRPC knows them. Each begins a call, does it, and ends it.

use std::sync::Arc;

use tonic::Streaming;

use super::{Action, Admin, ApiError, CredentialAdmin, Request, Response, Status, about_change, changed, import, v1};

#[tonic::async_trait]
impl CredentialAdmin for Admin {
    async fn list_providers(
        &self,
        request: Request<v1::ListProvidersRequest>,
    ) -> Result<Response<v1::ListProvidersResponse>, Status> {
        let (call, _) = self.calls.begin("ListProviders", request);
        let answer = self.providers(&call);
        self.unread.end(call, answer).await
    }

    async fn put_credential(
        &self,
        request: Request<v1::PutCredentialRequest>,
    ) -> Result<Response<v1::PutCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("PutCredential", request);
        let answer = self.put(&mut call, request).await;
        call.end(answer).await
    }

    type ImportCredentialsStream = import::Answers;

    async fn import_credentials(
        &self,
        request: Request<Streaming<v1::ImportCredentialsRequest>>,
    ) -> Result<Response<import::Answers>, Status> {
        let (metadata, extensions, mut requests) = request.into_parts();
        // Like that of a call with a single one, the first message is there before anything is decided.
        let first = requests.message().await?;
        let request = Request::from_parts(metadata, extensions, ());
        let (mut call, ()) = self.calls.begin("ImportCredentials", request);
        let answer = self.import(&mut call, first, requests).await;
        call.end(answer).await
    }

    async fn get_credential(
        &self,
        request: Request<v1::GetCredentialRequest>,
    ) -> Result<Response<v1::GetCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("GetCredential", request);
        let answer = self.get(&mut call, &request);
        call.end(answer).await
    }

    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Result<Response<v1::ListCredentialsResponse>, Status> {
        let (mut call, request) = self.calls.begin("ListCredentials", request);
        let answer = self.list(&mut call, request).await;
        self.unread.end(call, answer).await
    }

    async fn set_credential_state(
        &self,
        request: Request<v1::SetCredentialStateRequest>,
    ) -> Result<Response<v1::SetCredentialStateResponse>, Status> {
        let (mut call, request) = self.calls.begin("SetCredentialState", request);
        let answer = self.set_state(&mut call, request).await;
        call.end(answer).await
    }

    async fn delete_credential(
        &self,
        request: Request<v1::DeleteCredentialRequest>,
    ) -> Result<Response<v1::DeleteCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("DeleteCredential", request);
        let answer = async {
            let (credential, _) = self.credential(&mut call, Action::CredentialsWrite, request.r#ref.as_ref())?;
            call.announce().await?;
            let (vault, expected) = (Arc::clone(self.vault()?), request.expected_version);
            let work = async move { vault.delete(credential, expected).await };
            let (info, revision) = call.change(self.calls.orphans(), work, about_change).await?;
            let credential = Some(changed(&call, &info)?);
            Ok::<_, ApiError>(v1::DeleteCredentialResponse {
                credential,
                revision: revision.0,
            })
        }
        .await;
        call.end(answer).await
    }

    async fn undelete_credential(
        &self,
        request: Request<v1::UndeleteCredentialRequest>,
    ) -> Result<Response<v1::UndeleteCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("UndeleteCredential", request);
        let answer = async {
            let (credential, _) = self.credential(&mut call, Action::CredentialsWrite, request.r#ref.as_ref())?;
            call.announce().await?;
            let (vault, expected) = (Arc::clone(self.vault()?), request.expected_version);
            let work = async move { vault.undelete(credential, expected).await };
            let (info, revision) = call.change(self.calls.orphans(), work, about_change).await?;
            let credential = Some(changed(&call, &info)?);
            Ok::<_, ApiError>(v1::UndeleteCredentialResponse {
                credential,
                revision: revision.0,
            })
        }
        .await;
        call.end(answer).await
    }

    async fn purge_credential(
        &self,
        request: Request<v1::PurgeCredentialRequest>,
    ) -> Result<Response<v1::PurgeCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("PurgeCredential", request);
        let answer = self.purge(&mut call, request).await;
        call.end(answer).await
    }

    async fn list_credential_versions(
        &self,
        request: Request<v1::ListCredentialVersionsRequest>,
    ) -> Result<Response<v1::ListCredentialVersionsResponse>, Status> {
        let (mut call, request) = self.calls.begin("ListCredentialVersions", request);
        let answer = self.versions(&mut call, &request).await;
        self.unread.end(call, answer).await
    }

    async fn rollback_credential(
        &self,
        request: Request<v1::RollbackCredentialRequest>,
    ) -> Result<Response<v1::RollbackCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("RollbackCredential", request);
        let answer = self.rollback(&mut call, request).await;
        call.end(answer).await
    }

    async fn set_assignment(
        &self,
        request: Request<v1::SetAssignmentRequest>,
    ) -> Result<Response<v1::SetAssignmentResponse>, Status> {
        let (mut call, request) = self.calls.begin("SetAssignment", request);
        let answer = self.assign(&mut call, request).await;
        call.end(answer).await
    }

    async fn get_assignment(
        &self,
        request: Request<v1::GetAssignmentRequest>,
    ) -> Result<Response<v1::GetAssignmentResponse>, Status> {
        let (mut call, request) = self.calls.begin("GetAssignment", request);
        let answer = self.assignment(&mut call, &request);
        call.end(answer).await
    }

    async fn list_assignments(
        &self,
        request: Request<v1::ListAssignmentsRequest>,
    ) -> Result<Response<v1::ListAssignmentsResponse>, Status> {
        let (mut call, request) = self.calls.begin("ListAssignments", request);
        let answer = self.assignments(&mut call, &request);
        self.unread.end(call, answer).await
    }

    async fn explain_resolution(
        &self,
        request: Request<v1::ExplainResolutionRequest>,
    ) -> Result<Response<v1::ExplainResolutionResponse>, Status> {
        let (mut call, request) = self.calls.begin("ExplainResolution", request);
        let answer = self.explain(&mut call, &request);
        call.end(answer).await
    }

    async fn check_coverage(
        &self,
        request: Request<v1::CheckCoverageRequest>,
    ) -> Result<Response<v1::CheckCoverageResponse>, Status> {
        let (mut call, request) = self.calls.begin("CheckCoverage", request);
        let answer = self.coverage(&mut call, request).await;
        self.unread.end(call, answer).await
    }

    async fn verify_credential(
        &self,
        request: Request<v1::VerifyCredentialRequest>,
    ) -> Result<Response<v1::VerifyCredentialResponse>, Status> {
        let (mut call, request) = self.calls.begin("VerifyCredential", request);
        let answer = self
            .credential(&mut call, Action::Verify, request.r#ref.as_ref())
            .and(Err(ApiError::NotBuilt("VerifyCredential")));
        call.end(answer).await
    }
}
