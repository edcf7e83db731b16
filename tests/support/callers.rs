//! Callers of the three services, each over a connection of its own.

use std::path::Path;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tresor::pb::v1;
use tresor::pb::v1::credential_admin_client::CredentialAdminClient;
use tresor::pb::v1::credential_resolver_client::CredentialResolverClient;
use tresor::pb::v1::vault_operator_client::VaultOperatorClient;
use tresor::pki::Pair;

use super::process::Server;
use super::requests::order;

/// One caller, as a client of each service.
#[derive(Clone)]
pub(crate) struct Callers {
    pub(crate) channel: Channel,
    pub(crate) resolver: CredentialResolverClient<Channel>,
    pub(crate) admin: CredentialAdminClient<Channel>,
    pub(crate) operator: VaultOperatorClient<Channel>,
}

impl Callers {
    /// With the certificate of a pair, or with none. The connection is made with the first call.
    pub(crate) fn connect(server: &Server, pair: Option<&Pair>) -> Self {
        let read = |path: &Path| std::fs::read(path).unwrap();
        let identity = pair.map(|pair| Identity::from_pem(read(&pair.certificate), read(&pair.key)));
        Self::with_identity(server, identity)
    }

    pub(crate) fn with_identity(server: &Server, identity: Option<Identity>) -> Self {
        Self::trusting(server, &server.pki.ca, identity)
    }

    /// One that takes the server for genuine by another authority than that of its first certificate.
    pub(crate) fn trusting(server: &Server, ca: &Path, identity: Option<Identity>) -> Self {
        let ca = Certificate::from_pem(std::fs::read(ca).unwrap());
        let tls = ClientTlsConfig::new().domain_name("localhost").ca_certificate(ca);
        let tls = match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let endpoint = Endpoint::try_from(format!("https://{}", server.listen)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        Self {
            resolver: CredentialResolverClient::new(channel.clone()),
            admin: CredentialAdminClient::new(channel.clone()).max_decoding_message_size(16 << 20),
            operator: VaultOperatorClient::new(channel.clone()),
            channel,
        }
    }

    /// Saves, and returns the revision.
    pub(crate) async fn save(&self, request: v1::PutCredentialRequest) -> u64 {
        let saved = self.admin.clone().put_credential(request).await.unwrap().into_inner();
        saved.revision
    }

    pub(crate) async fn assign(&self, tenant: &str, provider: &str, mode: v1::AssignmentMode) -> u64 {
        let request = v1::SetAssignmentRequest {
            tenant: tenant.into(),
            provider: provider.into(),
            mode: mode.into(),
            ..v1::SetAssignmentRequest::default()
        };
        self.admin
            .clone()
            .set_assignment(request)
            .await
            .unwrap()
            .into_inner()
            .revision
    }

    /// Resolves for an order of an office.
    pub(crate) async fn resolve(
        &self,
        tenant: &str,
        provider: &str,
        office: &str,
    ) -> Result<v1::ResolvedCredential, tonic::Status> {
        let request = v1::ResolveForOrderRequest {
            tenant: tenant.into(),
            provider: provider.into(),
            order: Some(order(office)),
            ..v1::ResolveForOrderRequest::default()
        };
        let answer = self.resolver.clone().resolve_for_order(request).await?;
        Ok(answer.into_inner().credential.expect("there is a credential"))
    }

    /// Follows a tenant's changes. The answer has begun, so the server knows of it.
    pub(crate) async fn watch(&self, tenant: &str) -> tonic::Streaming<v1::WatchChangesResponse> {
        let request = v1::WatchChangesRequest {
            tenant: tenant.into(),
            ..v1::WatchChangesRequest::default()
        };
        self.resolver.clone().watch_changes(request).await.unwrap().into_inner()
    }

    pub(crate) async fn status(&self) -> Result<v1::GetStatusResponse, tonic::Status> {
        let answer = self.operator.clone().get_status(v1::GetStatusRequest {}).await?;
        Ok(answer.into_inner())
    }
}

/// The password that was handed out.
pub(crate) fn password(credential: &v1::ResolvedCredential) -> &str {
    use v1::resolved_credential::Secret;

    match credential.secret.as_ref().expect("something is revealed") {
        Secret::Login(login) => &login.password,
        Secret::MailAccount(account) => match account.auth.as_ref().expect("there is a way to log in") {
            v1::mail_account::Auth::Password(password) => password,
            v1::mail_account::Auth::Oauth2(_) => panic!("this is OAuth 2.0"),
        },
    }
}
