//! Server names that no server needs, from clients that any server takes.
//!
//! Go's TLS puts the host it was told into the client hello (SNI), so that load generators and proxies which
//! hand it `127.0.0.1:6443` send a name that is none. kube-apiserver, itself Go, never looks; rustls ends the
//! handshake, and has no setting for it. The name plays no part here, as there is one certificate, so such a
//! name is hidden: the type of its extension is overwritten with one that nobody knows, before rustls reads
//! the hello. Both sides prove at the end of the handshake that they saw the same bytes; what rustls hashes
//! for that ([`cipher_suites`]) gets the type back. A client that sends the replacement itself thus only fails
//! its own handshake. A second hello, after a retry that asks for another key share, is left as it is.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use rustls::SupportedCipherSuite;
use rustls::crypto::{CipherSuiteCommon, hash};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The extension `server_name` (RFC 6066, 3).
const SERVER_NAME: [u8; 2] = [0, 0];
/// What stands in its place: from the range for private use (RFC 8446, 11).
const HIDDEN: [u8; 2] = [0xff, 0x4b];
/// A record's header: type, version (2), length (2).
const RECORD_HEADER: usize = 5;
const RECORD_MAX: usize = 16 << 10;
const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// A stream of which the first record was read already.
pub(super) struct Begun<T> {
    inner: T,
    bytes: Vec<u8>,
    /// How many of `bytes` were read again.
    taken: usize,
}

/// Reads the first record, and hides the server name of its client hello if that is no name.
///
/// # Errors
/// When reading fails.
pub(super) async fn begin<T: AsyncRead + Unpin>(mut inner: T) -> io::Result<Begun<T>> {
    let mut bytes = Vec::with_capacity(2 << 10);
    let complete = loop {
        if bytes.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE) {
            break None;
        }
        let length = bytes.get(3..RECORD_HEADER).map(|two| usize::from(be16(two)));
        match length {
            Some(length) if length > RECORD_MAX => break None,
            Some(length) if bytes.len() >= RECORD_HEADER + length => break Some(RECORD_HEADER + length),
            _ => {}
        }
        if inner.read_buf(&mut bytes).await? == 0 {
            break None;
        }
    };
    if let Some(hello) = complete.and_then(|end| bytes.get_mut(RECORD_HEADER..end)) {
        hide(hello);
    }
    Ok(Begun { inner, bytes, taken: 0 })
}

fn be16(two: &[u8]) -> u16 {
    two.iter().fold(0, |number, byte| (number << 8) | u16::from(*byte))
}

/// Takes `count` bytes off the front.
fn split<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

/// Where in a client hello the extension of type `wanted` begins, and what it contains. A hello may end early:
/// the proof of a resumed session covers it up to that proof.
fn extension(hello: &[u8], wanted: [u8; 2]) -> Option<(usize, &[u8])> {
    let mut rest = hello;
    if split(&mut rest, 4)?[0] != CLIENT_HELLO {
        return None;
    }
    split(&mut rest, 2 + 32)?; // version and random
    for length_bytes in [1, 2, 1] {
        // session, cipher suites and compression methods
        let length = be16(split(&mut rest, length_bytes)?);
        split(&mut rest, usize::from(length))?;
    }
    split(&mut rest, 2)?;
    loop {
        let at = hello.len() - rest.len();
        let kind = split(&mut rest, 2)?;
        let length = usize::from(be16(split(&mut rest, 2)?));
        let content = split(&mut rest, length)?;
        if kind == wanted {
            return Some((at, content));
        }
    }
}

/// Whether an extension holds one host name, which rustls would refuse and Go's server would not.
fn is_no_name(mut list: &[u8]) -> bool {
    let mut one = || {
        split(&mut list, 2)?;
        let host_name = split(&mut list, 1)? == [0];
        let length = usize::from(be16(split(&mut list, 2)?));
        let name = split(&mut list, length)?;
        (host_name && list.is_empty()).then_some(name)
    };
    one().is_some_and(|name| {
        !name.ends_with(b".")
            && !std::str::from_utf8(name).is_ok_and(|name| ServerName::try_from(name).is_ok())
    })
}

fn hide(hello: &mut [u8]) {
    let at = match extension(hello, SERVER_NAME) {
        Some((at, list)) if is_no_name(list) => at,
        _ => return,
    };
    if let Some(kind) = hello.get_mut(at..at + 2) {
        kind.copy_from_slice(&HIDDEN);
    }
}

/// The bytes that the client sent.
fn restored(message: &[u8]) -> Cow<'_, [u8]> {
    let Some((at, _)) = extension(message, HIDDEN) else { return Cow::Borrowed(message) };
    let mut sent = message.to_vec();
    if let Some(kind) = sent.get_mut(at..at + 2) {
        kind.copy_from_slice(&SERVER_NAME);
    }
    Cow::Owned(sent)
}

/// `suites` which hash what the client sent where a server name was hidden by [`begin`].
pub(crate) fn cipher_suites(suites: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
    /// rustls holds suites for as long as the program runs.
    static KNOWN: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
        let all = rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
        all.iter().map(|suite| hashing(*suite, restored)).collect()
    });
    let known = |suite: &SupportedCipherSuite| KNOWN.iter().find(|known| known.suite() == suite.suite());
    suites.iter().map(|suite| *known(suite).unwrap_or(suite)).collect()
}

/// What a message is, as far as the proof of the handshake is concerned.
type Amend = fn(&[u8]) -> Cow<'_, [u8]>;

/// A suite that passes each message of a handshake through `amend` before it is hashed.
fn hashing(suite: SupportedCipherSuite, amend: Amend) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: Box::leak(Box::new(Amending { hash: common.hash_provider, amend })),
        confidentiality_limit: common.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(rustls::Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: suite.aead_alg,
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(rustls::Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: suite.aead_alg,
                quic: None,
            })))
        }
    }
}

struct Amending {
    hash: &'static dyn hash::Hash,
    amend: Amend,
}

impl hash::Hash for Amending {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(AmendingContext { context: self.hash.start(), amend: self.amend })
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        self.hash.hash(&(self.amend)(data))
    }

    fn output_len(&self) -> usize {
        self.hash.output_len()
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        self.hash.algorithm()
    }

    fn fips(&self) -> bool {
        self.hash.fips()
    }
}

struct AmendingContext {
    context: Box<dyn hash::Context>,
    amend: Amend,
}

impl hash::Context for AmendingContext {
    fn fork_finish(&self) -> hash::Output {
        self.context.fork_finish()
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self { context: self.context.fork(), amend: self.amend })
    }

    fn finish(self: Box<Self>) -> hash::Output {
        self.context.finish()
    }

    fn update(&mut self, data: &[u8]) {
        self.context.update(&(self.amend)(data));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Begun<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.bytes.get(this.taken..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(left.get(..count).unwrap_or_default());
        this.taken += count;
        if this.taken == this.bytes.len() {
            (this.bytes, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Begun<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::pki;

    const VALID: &str = "127-0-0-1-6443";
    const INVALID: &str = "127.0.0.1:6443";

    /// The hello of a client that sends [`INVALID`] where its TLS library has written [`VALID`].
    fn with_invalid_name(message: &[u8]) -> Cow<'_, [u8]> {
        let hello = message.strip_prefix(&[RECORD_HANDSHAKE, 3, 1]).map_or(message, |record| &record[2..]);
        let at = message.windows(VALID.len()).position(|window| window == VALID.as_bytes());
        let Some(at) = at.filter(|_| hello[0] == CLIENT_HELLO) else { return Cow::Borrowed(message) };
        let mut sent = message.to_vec();
        sent[at..at + VALID.len()].copy_from_slice(INVALID.as_bytes());
        Cow::Owned(sent)
    }

    /// Carries what the client writes to the server, amended, and back what the server answers.
    async fn wire(client: DuplexStream, server: DuplexStream) {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let there = async move {
            let mut piece = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from_client.read(&mut piece).await {
                to_server.write_all(&with_invalid_name(&piece[..count])).await.unwrap();
            }
        };
        tokio::join!(there, async {
            let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        });
    }

    async fn handshake(version: &'static rustls::SupportedProtocolVersion, hash: Amend) -> io::Result<()> {
        let pki = pki::Pki::ephemeral().unwrap();
        let server = pki::server_config(&pki.server(&[VALID.to_owned()]).unwrap(), pki.ca_pem()).unwrap();
        let mut provider = (*pki::provider()).clone();
        for suite in &mut provider.cipher_suites {
            *suite = hashing(*suite, hash);
        }
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(pki.ca_pem().as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (client_end, client_wire) = tokio::io::duplex(1 << 16);
        let (server_wire, server_end) = tokio::io::duplex(1 << 16);
        let wire = tokio::spawn(wire(client_wire, server_wire));
        let serving = tokio::spawn(async move {
            let stream = begin(server_end).await?;
            let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(stream).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        });
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(ServerName::try_from(VALID).unwrap(), client_end).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        assert_eq!(all, b"hello");
        serving.await.unwrap()?;
        wire.abort();
        Ok(())
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_taken() {
        handshake(&rustls::version::TLS13, with_invalid_name).await.unwrap();
        handshake(&rustls::version::TLS12, with_invalid_name).await.unwrap();
    }

    #[tokio::test]
    async fn a_hello_changed_on_its_way_is_not() {
        handshake(&rustls::version::TLS13, |message| Cow::Borrowed(message)).await.unwrap_err();
    }

    #[tokio::test]
    async fn what_is_no_hello_is_passed_on() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], &[22, 3, 1, 0xff, 0xff, 1], &[22, 3, 1, 0, 9, 1, 0, 0]] {
            let mut all = Vec::new();
            begin(bytes).await.unwrap().read_to_end(&mut all).await.unwrap();
            assert_eq!(all, bytes);
        }
    }

    #[test]
    fn only_names_that_are_none_are_hidden() {
        let list = |name: &str| {
            let length = u8::try_from(name.len()).unwrap();
            [&[0, length + 3, 0, 0, length][..], name.as_bytes()].concat()
        };
        assert!(is_no_name(&list("127.0.0.1:6443")) && is_no_name(&list("a b")));
        for good in ["localhost", "127.0.0.1", "a.example"] {
            assert!(!is_no_name(&list(good)), "{good}");
        }
        assert!(!is_no_name(&list("ends.with.a.dot:1.")), "Go refuses these, too");
        assert!(!is_no_name(&[list("a:1"), list("b:2")].concat()), "one name only");
    }
}
