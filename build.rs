//! Compiles the protocol buffers without a system `protoc` and keeps their descriptors for reflection.

use std::path::PathBuf;

use prost::Message as _;

const PUBLIC: &[&str] = &[
    "dynarex/credentials/v1/common.proto",
    "dynarex/credentials/v1/resolver.proto",
    "dynarex/credentials/v1/admin.proto",
    "dynarex/credentials/v1/operator.proto",
];
const STORAGE: &str = "tresor/storage/v1/storage.proto";
const BACKUP: &str = "tresor/backup/v1/backup.proto";
/// Of Kubernetes: what every KMS plugin speaks.
const KMS: &str = "k8s.io/kms/apis/v2/api.proto";

/// What can hold a secret gets no `Debug`, so that none can be printed by accident.
const SECRET: &[&str] = &[
    ".dynarex.credentials.v1.Login",
    ".dynarex.credentials.v1.MailAccount",
    ".dynarex.credentials.v1.OAuth2Client",
    ".dynarex.credentials.v1.ResolvedCredential",
    ".dynarex.credentials.v1.PutCredentialRequest",
    ".dynarex.credentials.v1.CredentialLine",
    ".dynarex.credentials.v1.ImportCredentialsRequest",
    ".dynarex.credentials.v1.ResolveForOrderResponse",
    ".dynarex.credentials.v1.ResolveManyForOrderResponse",
    ".dynarex.credentials.v1.ResolveResult",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    // Clients see the comments in `grpcurl describe`, so the source information stays in.
    let public = protox::compile(PUBLIC, ["proto"])?;
    std::fs::write(out.join("descriptors.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::pb::codec::SmallCodec")
        .skip_debug(SECRET)
        // What is passed on as it comes.
        .bytes(".dynarex.credentials.v1.BackupResponse")
        .compile_fds(public)?;

    let storage = protox::compile([STORAGE], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        // What is signed holds the secret: it stays in the one buffer that it was opened in.
        .bytes(".tresor.storage.v1.Signature")
        .skip_debug(["."])
        .compile_fds(storage)?;

    let backup = protox::compile([BACKUP], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .skip_debug(["."])
        .compile_fds(backup)?;

    let kms = protox::compile([KMS], ["proto"])?;
    tonic_prost_build::configure()
        // Only tests play the plugin.
        .server_mod_attribute(".", "#[cfg(test)]")
        .btree_map(".")
        .skip_debug(["."])
        .compile_fds(kms)?;
    Ok(())
}
