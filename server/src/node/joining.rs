//! How a node asks to be let into a cluster: with `--insecure` by asking, otherwise by a join token.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use pontoon_kv::cluster::{Answer, Call, Candidate, Denial, Joined, Joining, NotJoined, Secret};
use pontoon_kv::routing::{PeerError, Peers, Whom};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::certs::{CertDir, Credentials, Held, JoinToken, Keyring, Pin, SigningRequest};
use crate::rpc::{Identity, Network};

/// What a node is told whose token is of no use.
const GET_ANOTHER: &str =
    "run `pontoon node token` on the machine of a node that runs, and start again with that token";

/// Asks, and nothing has to be proven.
pub(super) struct Insecurely(pub(super) Network);

impl Joining for Insecurely {
    fn ask(
        &self,
        address: String,
        candidate: Candidate,
    ) -> BoxFuture<'static, Result<Joined, NotJoined>> {
        let called = self.0.call(Whom::Address(address), Call::Join(candidate));
        async move {
            match called.await {
                Ok(Answer::Joined(joined)) => Ok(joined),
                Ok(Answer::Denied(denial)) => Err(NotJoined::Ever(denial.to_string())),
                other => Err(not_yet(other)),
            }
        }
        .boxed()
    }
}

/// Shows the secret of a token to the cluster whose fingerprint is in it, and gets a certificate.
pub(super) struct ByToken {
    /// The token.
    pub(super) token: JoinToken,
    /// Where key and certificate are kept.
    pub(super) directory: CertDir,
    /// Where the certificate is used.
    pub(super) keyring: Arc<Keyring>,
}

impl Joining for ByToken {
    fn ask(
        &self,
        address: String,
        candidate: Candidate,
    ) -> BoxFuture<'static, Result<Joined, NotJoined>> {
        let (token, directory) = (self.token.clone(), self.directory.clone());
        let keyring = Arc::clone(&self.keyring);
        async move {
            let prepared = prepare(&token, &directory).map_err(NotJoined::Ever);
            let (pin, request) = prepared?;
            // A network of its own: what comes later is said on connections with the certificate.
            let credentials = Credentials::Joining(Arc::clone(&pin));
            let identity = Identity::at(String::new(), credentials);
            let network = Network::new(Arc::default(), Arc::new(identity));
            let call = Call::JoinByToken {
                candidate,
                secret: Secret(Bytes::copy_from_slice(token.secret())),
                request,
            };
            match network.call(Whom::Address(address), call).await {
                Ok(Answer::Certified {
                    joined,
                    certificate,
                    authority,
                }) => {
                    let [certificate, authority] =
                        [certificate, authority].map(|der| CertificateDer::from(der.to_vec()));
                    keep(&token, &directory, &keyring, certificate, authority)
                        .map_err(NotJoined::Ever)?;
                    Ok(joined)
                }
                Ok(Answer::Denied(denial @ Denial::Token)) => {
                    Err(NotJoined::Ever(format!("{denial}; {GET_ANOTHER}")))
                }
                Ok(Answer::Denied(denial)) => Err(NotJoined::Ever(denial.to_string())),
                Err(PeerError::Unreachable { .. }) if pin.met_another() => {
                    Err(NotJoined::Ever(format!(
                        "the node to join belongs to another cluster than the join token; check \
                         --join, or {GET_ANOTHER}"
                    )))
                }
                other => Err(not_yet(other)),
            }
        }
        .boxed()
    }
}

/// The key lies on the disk before anybody is asked: whoever asks twice asks for the same one.
fn prepare(token: &JoinToken, directory: &CertDir) -> Result<(Arc<Pin>, Bytes), String> {
    let key = directory.key()?;
    let request = SigningRequest::write(&key, token.secret())?;
    Ok((Arc::new(Pin::new(token.clone())?), request))
}

/// Takes over a certificate that was signed.
fn keep(
    token: &JoinToken,
    directory: &CertDir,
    keyring: &Keyring,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
) -> Result<(), String> {
    if !token.is_of(&authority) {
        return Err("the cluster has sent another authority than that of the token".into());
    }
    // Checked before it is kept: the next start has nothing else.
    let key = directory.key()?;
    let held = Held::new(certificate.clone(), authority.clone(), key.into())?;
    directory.save(&certificate, &authority)?;
    keyring.install(held);
    Ok(())
}

fn not_yet(answer: Result<Answer, PeerError>) -> NotJoined {
    NotJoined::Yet(match answer {
        Ok(_) => "it gives an odd answer".to_owned(),
        Err(error) => error.to_string(),
    })
}
