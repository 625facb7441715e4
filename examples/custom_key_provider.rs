//! A key provider of one's own. The root key is held by an agent, as ssh-agent holds keys: another process, which wraps
//! and unwraps for whoever may open its socket and shows its key to nobody. The provider proves that it keeps the
//! promises of every provider, and then a vault is opened with it.
//!
//! `cargo run -p scaivault-core --example custom_key_provider`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    error::Error,
    io::{Read as _, Write as _},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use scaivault_core::{
    Caller, Database, Role, Scope, TenantId, Vault,
    secrets::{SecretData, SecretPath, SecretWrite},
};
use scaivault_kms::{
    Attestation, Cause, Context, Description, Health, KeyProvider, KmsError, SecretKey, WrappedKey,
    conformance, local::KeyFile,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use zeroize::Zeroizing;

// ---------------------------------------------------------------- the provider

const PROVIDER: &str = "agent";
const ALGORITHM: &str = "AES-256-GCM";
const NAME: u8 = 0;
const WRAP: u8 = 1;
const UNWRAP: u8 = 2;

#[derive(Debug)]
struct AgentProvider {
    socket: PathBuf,
    key_id: String,
}

impl AgentProvider {
    /// Asks the agent for the name of its key, which is stored beside everything that the key wraps.
    async fn connect(socket: PathBuf) -> Result<Self, KmsError> {
        let name = ask(&socket, NAME, &[], &[]).await?;
        Ok(Self { socket, key_id: String::from_utf8_lossy(&name).into_owned() })
    }
}

/// One request: what to do, the length of the context, the context, the bytes. The answer begins with whether it was
/// done. Deadlines and retries are not a provider's business: `scaivault_kms::guard` puts them around any.
async fn ask(socket: &Path, what: u8, aad: &[u8], bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let talk = async {
        let mut stream = UnixStream::connect(socket).await?;
        let length = u32::try_from(aad.len()).unwrap_or(u32::MAX).to_be_bytes();
        let request = Zeroizing::new([&[what][..], &length, aad, bytes].concat());
        stream.write_all(&request).await?;
        stream.shutdown().await?;
        let mut answer = Zeroizing::new(Vec::with_capacity(256));
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // An agent that is away is not an agent without a key.
    let mut answer = talk.await.map_err(|error| {
        KmsError::unavailable(PROVIDER, Cause::Unreachable, "no agent", None, Some(error.into()))
    })?;
    if answer.first() != Some(&1) {
        return Err(invalid("the blob or its context was changed, or another key made it"));
    }
    answer.remove(0);
    Ok(answer)
}

fn invalid(message: &str) -> KmsError {
    KmsError::Invalid { provider: PROVIDER, message: message.to_owned() }
}

#[async_trait]
impl KeyProvider for AgentProvider {
    fn describe(&self) -> Description {
        Description {
            provider: PROVIDER,
            key_id: self.key_id.clone(),
            key_version: None,
            algorithm: ALGORITHM.to_owned(),
            native_context: true,
            key_bits: Some(256),
            extractable: true,
            attestation: Attestation::None,
            signature_schemes: Vec::new(),
        }
    }

    async fn wrap(&self, key: &SecretKey, context: &Context) -> Result<WrappedKey, KmsError> {
        let blob = ask(&self.socket, WRAP, &context.to_aad(), key.expose()).await?.to_vec();
        let (provider, algorithm) = (PROVIDER.to_owned(), ALGORITHM.to_owned());
        Ok(WrappedKey { provider, key_id: self.key_id.clone(), key_version: None, algorithm, blob })
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &Context) -> Result<SecretKey, KmsError> {
        if wrapped.provider != PROVIDER || wrapped.algorithm != ALGORITHM {
            return Err(invalid("another provider wrapped it"));
        }
        if wrapped.key_id != self.key_id {
            let message = format!("it was wrapped under {}, the agent has {}", wrapped.key_id, self.key_id);
            return Err(KmsError::NotFound { provider: PROVIDER, message });
        }
        let key = ask(&self.socket, UNWRAP, &context.to_aad(), &wrapped.blob).await?;
        SecretKey::from_slice(&key).ok_or_else(|| invalid("it holds no key"))
    }

    async fn health(&self) -> Result<Health, KmsError> {
        let start = Instant::now();
        let (key, context) = (SecretKey::generate()?, Context::new());
        self.unwrap(&self.wrap(&key, &context).await?, &context).await?;
        Ok(Health { latency: start.elapsed() })
    }
}

// ---------------------------------------------------------------- the agent

/// Holds a key as long as it runs. One in earnest would have it from somewhere, and look who asks.
fn agent(socket: &Path) -> Result<(), Box<dyn Error>> {
    let key = SecretKey::generate()?;
    let root = RandomizedNonceKey::new(&AES_256_GCM, key.expose())?;
    let name = KeyFile::from_key(key).fingerprint().to_owned();
    for stream in UnixListener::bind(socket)?.incoming() {
        let (mut stream, mut request) = (stream?, Zeroizing::new(Vec::with_capacity(1024)));
        stream.read_to_end(&mut request)?;
        let done = answer(&root, &name, &request);
        let told = done.map_or_else(|| Zeroizing::new(vec![0]), |bytes| [&[1], &bytes[..]].concat().into());
        stream.write_all(&told)?;
    }
    Ok(())
}

fn answer(root: &RandomizedNonceKey, name: &str, request: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (what, rest) = request.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (aad, bytes) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    match *what {
        NAME => Some(name.as_bytes().to_vec().into()),
        WRAP => {
            let mut sealed = Zeroizing::new(bytes.to_vec());
            let nonce = root.seal_in_place_append_tag(Aad::from(aad), &mut *sealed).ok()?;
            Some([&nonce.as_ref()[..], &sealed].concat().into())
        }
        UNWRAP => {
            let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
            let mut opened = Zeroizing::new(sealed.to_vec());
            Some(root.open_in_place(Nonce::from(nonce), Aad::from(aad), &mut opened).ok()?.to_vec().into())
        }
        _ => None,
    }
}

// ---------------------------------------------------------------- both at work

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(socket) = std::env::args_os().nth(1) {
        return agent(Path::new(&socket));
    }
    let folder = tempfile::tempdir()?;
    let (one, other) = (start(&folder.path().join("one"))?, start(&folder.path().join("other"))?);
    let provider = Arc::new(AgentProvider::connect(one.socket.clone()).await?);
    let stranger = AgentProvider::connect(other.socket.clone()).await?;

    conformance::all(&*provider, &stranger).await?;
    println!("an agent that holds {} keeps every promise of a key provider", provider.key_id);

    let vault = Vault::builder(Database::in_memory(), provider.clone()).open().await?;
    let admin = Caller::user("user:alice@acme.example", TenantId::parse("tnt_acme")?)?
        .with_roles([Role::TenantAdmin])
        .with_scopes([Scope::Admin]);
    let (admin, path) = (vault.ctx(admin)?, SecretPath::parse("app/db")?);
    let write = SecretWrite::new(SecretData::from_value(&json!({"password": "s3cret"}))?);
    vault.secrets(&admin).put(&path, write).await?;
    let secret = vault.secrets(&admin).get(&path, None).await?;
    let value: serde_json::Value = secret.data.decode()?;
    assert_eq!(value["password"], "s3cret");
    println!("a vault under it wrote and read {path}, version {}", secret.item.version);
    vault.close().await;

    drop(one);
    let error = provider.health().await.err().ok_or("an agent that has ended answered")?;
    assert!(error.is_transient(), "{error:?}");
    println!("the agent has ended: {error}");
    Ok(())
}

/// An agent that ends with this value.
struct Agent {
    socket: PathBuf,
    child: Child,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(socket: &Path) -> Result<Agent, Box<dyn Error>> {
    let child = Command::new(std::env::current_exe()?).arg(socket).spawn()?;
    let agent = Agent { socket: socket.to_owned(), child };
    let until = Instant::now() + Duration::from_secs(10);
    while !socket.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(agent)
}
