//! Whether a certificate and a private key belong together, in the words of Go's `tls.X509KeyPair`.
//!
//! Only the frame of the certificate is read, up to its public key; nothing is verified.

use super::pem::{self, Block};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// What is wrong with the pair, if anything.
pub fn problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    check(certificate, key).err()
}

fn check(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let (certificate, key) = (String::from_utf8_lossy(certificate), String::from_utf8_lossy(key));
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for Block { kind, bytes, .. } in pem::blocks(&certificate) {
        if kind == "CERTIFICATE" { found.push(bytes) } else { skipped.push(kind) }
    }
    let Some(first) = found.first() else {
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.ends_with("PRIVATE KEY") => {
                "tls: failed to find certificate PEM data in certificate input, \
                 but did find a private key; PEM inputs may have been switched"
                    .to_owned()
            }
            several => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
                 following types: [{}]",
                several.join(" ")
            ),
        });
    };
    let mut skipped = Vec::new();
    let is_key = |kind: &str| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY");
    let private = pem::blocks(&key).find_map(|Block { kind, bytes, .. }| {
        if is_key(kind) {
            return Some(bytes);
        }
        skipped.push(kind);
        None
    });
    let Some(private) = private else {
        return Err(match skipped.as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [one] if *one == "CERTIFICATE" => {
                "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
            }
            several => format!(
                "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM \
                 blocks of the following types: [{}]",
                several.join(" ")
            ),
        });
    };
    let public = of_certificate(first)?;
    let private = of_private_key(&private).ok_or("tls: failed to parse private key")?;
    match (public, private) {
        (Key::Rsa(a), Key::Rsa(b)) if a == b => Ok(()),
        // The public half may be left out of the private key.
        (Key::Ec(a), Key::Ec(b)) if a == b || b.is_empty() => Ok(()),
        (Key::Ed25519(a), Key::Ed25519(b)) if a == b || b.is_empty() => Ok(()),
        (Key::Rsa(_), Key::Rsa(_)) | (Key::Ec(_), Key::Ec(_)) | (Key::Ed25519(_), Key::Ed25519(_)) => {
            Err("tls: private key does not match public key".to_owned())
        }
        (Key::Unknown, _) => Err("tls: unknown public key algorithm".to_owned()),
        _ => Err("tls: private key type does not match public key type".to_owned()),
    }
}

/// The public half of a key, as it is written.
#[derive(Debug)]
enum Key {
    /// Modulus and exponent.
    Rsa((Vec<u8>, Vec<u8>)),
    /// The point.
    Ec(Vec<u8>),
    Ed25519(Vec<u8>),
    Unknown,
}

/// A reader of DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let tag = *self.0.first()?;
        let (header, length) = pem::header(self.0)?;
        let (element, rest) = self.0.split_at_checked(header + length)?;
        self.0 = rest;
        let content = element.get(header..)?;
        Some((tag, content))
    }

    /// The next element, which must be of that kind.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

fn of_certificate(der: &[u8]) -> Result<Key, String> {
    let malformed = |what: &str| format!("x509: malformed {what}");
    let mut outer = Der(der);
    let certificate = outer.take(SEQUENCE).ok_or_else(|| malformed("certificate"))?;
    if !outer.0.is_empty() {
        return Err("x509: trailing data".to_owned());
    }
    let tbs = Der(certificate).take(SEQUENCE).ok_or_else(|| malformed("tbs certificate"))?;
    let mut fields = Der(tbs);
    if tbs.first() == Some(&0xa0) {
        fields.next().ok_or_else(|| malformed("version"))?;
    }
    fields.take(INTEGER).ok_or_else(|| malformed("serial number"))?;
    for what in ["signature algorithm identifier", "issuer", "validity", "issuer"] {
        fields.take(SEQUENCE).ok_or_else(|| malformed(what))?;
    }
    let spki = fields.take(SEQUENCE).ok_or_else(|| malformed("spki"))?;
    public_key(spki).ok_or_else(|| malformed("public key algorithm identifier"))
}

fn public_key(spki: &[u8]) -> Option<Key> {
    let mut spki = Der(spki);
    let algorithm = Der(spki.take(SEQUENCE)?).take(OBJECT_IDENTIFIER)?;
    let bits = spki.take(BIT_STRING)?.split_first()?.1.to_vec();
    Some(match algorithm {
        RSA => {
            let mut key = Der(Der(&bits).take(SEQUENCE)?);
            Key::Rsa((key.take(INTEGER)?.to_vec(), key.take(INTEGER)?.to_vec()))
        }
        ECDSA => Key::Ec(bits),
        ED25519 => Key::Ed25519(bits),
        _ => Key::Unknown,
    })
}

/// PKCS #1, PKCS #8 or SEC 1, whichever it is.
fn of_private_key(der: &[u8]) -> Option<Key> {
    rsa(der).or_else(|| pkcs8(der)).or_else(|| ec(der))
}

fn rsa(der: &[u8]) -> Option<Key> {
    let mut fields = Der(Der(der).take(SEQUENCE)?);
    fields.take(INTEGER)?;
    let (modulus, exponent) = (fields.take(INTEGER)?, fields.take(INTEGER)?);
    // The private exponent and two primes follow.
    (0..3).try_for_each(|_| fields.take(INTEGER).map(|_| ()))?;
    Some(Key::Rsa((modulus.to_vec(), exponent.to_vec())))
}

fn pkcs8(der: &[u8]) -> Option<Key> {
    let mut fields = Der(Der(der).take(SEQUENCE)?);
    fields.take(INTEGER)?;
    let algorithm = Der(fields.take(SEQUENCE)?).take(OBJECT_IDENTIFIER)?;
    let key = fields.take(OCTET_STRING)?;
    match algorithm {
        RSA => rsa(key),
        ECDSA => ec(key),
        ED25519 => Some(Key::Ed25519(Vec::new())),
        _ => None,
    }
}

fn ec(der: &[u8]) -> Option<Key> {
    let mut fields = Der(Der(der).take(SEQUENCE)?);
    fields.take(INTEGER)?;
    fields.take(OCTET_STRING)?;
    let mut public = Vec::new();
    while let Some((tag, content)) = fields.next() {
        if tag == 0xa1 {
            public = Der(content).take(BIT_STRING)?.split_first()?.1.to_vec();
        }
    }
    Some(Key::Ec(public))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made for this test with openssl: SEC 1, PKCS #8 and a stranger.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBbzCCARWgAwIBAgIURu8BdQ/jHjoBdb4UhyTQIl2FwLgwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBeDAgFw0yNjExMjEwMDUzNDVaGA8yMTI2MTAyODAwNTM0NVow
DDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOOi1z06awQv
yBTel1MXXoohQ3SQokqTHST7dZPOMv5xHV9U1GWmaOhwsBgq1+i+YfJotr5zo2oC
1XcNU/PphkujUzBRMB0GA1UdDgQWBBQo+u1Ura5+Vkje/X690+yDLHVuDjAfBgNV
HSMEGDAWgBQo+u1Ura5+Vkje/X690+yDLHVuDjAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQC6fa8ywgsUFWKN8XAhKwCjWr0utXnlt3bDtPr1aKBV
IgIgHm4W8flcfMQEELrk0uoAiGwXQzSC734Typ+T3ohnJ/o=
-----END CERTIFICATE-----";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIHlQl0rHtcozjYygkrz3R7+67Vg88Set2Le/SqKkfgSWoAoGCCqGSM49
AwEHoUQDQgAE46LXPTprBC/IFN6XUxdeiiFDdJCiSpMdJPt1k84y/nEdX1TUZaZo
6HCwGCrX6L5h8mi2vnOjagLVdw1T8+mGSw==
-----END EC PRIVATE KEY-----";
    const SAME_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeVCXSse1yjONjKCS
vPdHv7rtWDzxJ63Yt79KoqR+BJahRANCAATjotc9OmsEL8gU3pdTF16KIUN0kKJK
kx0k+3WTzjL+cR1fVNRlpmjocLAYKtfovmHyaLa+c6NqAtV3DVPz6YZL
-----END PRIVATE KEY-----";
    const OTHER: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIAe2fSQfT2Ns36VvEXbliiMHebNvwfk4OIagqvRuwIcmoAoGCCqGSM49
AwEHoUQDQgAE3vWyff3NIDW9+vmPnNpemsDYIRRPdgmQLm7jG8dAgGAGvlZe5T62
p5b8CmlU1Ckm6cNGuzhpjBTJ7PoxuupudA==
-----END EC PRIVATE KEY-----";

    #[test]
    fn a_key_belongs_to_its_certificate() {
        let says = |crt: &str, key: &str| problem(crt.as_bytes(), key.as_bytes()).unwrap_or_default();
        assert_eq!(says(CERTIFICATE, KEY), "");
        assert_eq!(says(CERTIFICATE, SAME_KEY), "");
        assert_eq!(says(CERTIFICATE, OTHER), "tls: private key does not match public key");
        assert_eq!(says("", KEY), "tls: failed to find any PEM data in certificate input");
        assert_eq!(says(CERTIFICATE, ""), "tls: failed to find any PEM data in key input");
        assert!(says(KEY, CERTIFICATE).ends_with("PEM inputs may have been switched"));
        assert!(says(CERTIFICATE, CERTIFICATE).starts_with("tls: found a certificate rather than a key"));
        let cut = CERTIFICATE.replacen("MII", "MIJ", 1);
        assert_eq!(says(&cut, KEY), "x509: malformed certificate");
    }
}
