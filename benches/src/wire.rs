//! A client of the ECS wire protocol: one connection, every request signed, as an SDK does.

use crate::Outcome;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use ring::{digest, hmac};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const KIND: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerServiceV20141113";

/// Who signs, and for which region.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub region: String,
}

/// One connection.
pub struct Wire {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    key: Key,
}

impl Wire {
    /// Over TLS if `ca` names the authority's certificate, else in the clear.
    ///
    /// # Errors
    /// Nobody listens there, or not with a certificate of that authority.
    pub async fn connect(address: SocketAddr, ca: Option<&Path>, key: Key) -> Outcome<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let sender = match ca {
            None => started(socket).await?,
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(ca)? {
                    roots.add(certificate?)?;
                }
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                let connector = TlsConnector::from(Arc::new(config));
                let name = ServerName::from(address.ip());
                started(connector.connect(name, socket).await?).await?
            }
        };
        Ok(Self { sender, host: address.to_string(), key })
    }

    /// Calls an operation with a JSON body; the answer's body.
    ///
    /// # Errors
    /// What the server refused, or that it went away.
    pub async fn call(&mut self, operation: &str, body: String) -> Outcome<Bytes> {
        let (stamp, authorization) = self.signed(operation, &body)?;
        let request = http::Request::post("/")
            .header("host", &self.host)
            .header("content-type", KIND)
            .header("x-amz-date", stamp)
            .header("x-amz-target", format!("{TARGET}.{operation}"))
            .header("authorization", authorization)
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => {
                Err(format!("{operation}: {status}: {}", String::from_utf8_lossy(&body)).into())
            }
        }
    }

    /// The date and the `Authorization` of a request (AWS Signature Version 4).
    fn signed(&self, operation: &str, body: &str) -> Outcome<(String, String)> {
        const SIGNED: &str = "content-type;host;x-amz-date;x-amz-target";
        let now = OffsetDateTime::now_utc();
        let stamp =
            now.format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let day = stamp.get(..8).unwrap_or_default();
        let canonical = format!(
            "POST\n/\n\ncontent-type:{KIND}\nhost:{}\nx-amz-date:{stamp}\n\
             x-amz-target:{TARGET}.{operation}\n\n{SIGNED}\n{}",
            self.host,
            sha256(body)
        );
        let scope = format!("{day}/{}/ecs/aws4_request", self.key.region);
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256(&canonical));
        let mut signature = format!("AWS4{}", self.key.secret).into_bytes();
        for part in [day, &self.key.region, "ecs", "aws4_request", &text] {
            signature = mac(&signature, part);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={}",
            self.key.id,
            hex(&signature)
        );
        Ok((stamp, authorization))
    }
}

async fn started<S>(stream: S) -> Outcome<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
