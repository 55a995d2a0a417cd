//! Certificates, signed in the name of the cluster's authority.
//!
//! Subject and alternative names are taken over byte for byte, all other extensions are the signer's own.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::der::{bits, element, integer, octets, oid, sequence, time};
use super::request::Request;

/// The longest life of a certificate.
const LIFE: Duration = Duration::from_secs(365 * 86_400);
/// The shortest.
const LIFE_MIN: Duration = Duration::from_secs(600);
/// Certificates begin a little in the past, for clocks that are late.
const BACKDATE: Duration = Duration::from_secs(300);
/// Shorter lives are not cut for that.
const SHORT: Duration = Duration::from_secs(8 * 3600);

/// A certificate authority with its key.
pub struct Authority {
    key: KeyPair,
    /// DER of its name.
    subject: Vec<u8>,
    key_id: Vec<u8>,
    not_after: Timestamp,
}

impl std::fmt::Debug for Authority {
    // The key is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn timestamp(time: &x509_parser::time::ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or_default()
}

/// SHA-1 is what everybody derives key ids with, and nothing rests on it; half of a SHA-256 does as well
/// (RFC 7093, method 1).
fn key_id(public_key: &[u8]) -> Result<Vec<u8>, String> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public_key).map_err(|error| error.to_string())?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &info.subject_public_key.data);
    Ok(hash.as_ref()[..20].to_vec())
}

impl Authority {
    /// From PEM.
    ///
    /// # Errors
    /// When one of both cannot be read.
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, String> {
        let der =
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, certificate) =
            x509_parser::parse_x509_certificate(&der).map_err(|error| error.to_string())?;
        // The id must be the one the authority's own certificate carries, if it does.
        let own_id =
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        Ok(Self {
            key: KeyPair::from_pem(key_pem).map_err(|error| error.to_string())?,
            subject: certificate.subject().as_raw().to_vec(),
            key_id: own_id.map_or_else(|| key_id(certificate.public_key().raw), Ok)?,
            not_after: timestamp(&certificate.validity().not_after),
        })
    }

    /// A certificate in PEM for what `request` asks and nothing else.
    ///
    /// # Errors
    /// When a usage is unknown or the authority has run out.
    pub fn issue(
        &self,
        request: &Request,
        usages: &[String],
        seconds: Option<i32>,
        now: Timestamp,
    ) -> Result<String, String> {
        if now >= self.not_after {
            return Err(format!("the signer has expired: NotAfter={}", self.not_after));
        }
        let asked = seconds.map_or(LIFE, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        let life = asked.clamp(LIFE_MIN, LIFE);
        let end = if life < SHORT { now + life } else { now + (life - BACKDATE) };
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| "there is no randomness".to_owned())?;
        serial[0] = (serial[0] & 0x7f) | 0x40;
        let algorithm = self.algorithm()?;
        let body = sequence(&[
            element(0xa0, &integer(&[2])),
            integer(&serial),
            algorithm.clone(),
            self.subject.clone(),
            sequence(&[time(now - BACKDATE), time(end.min(self.not_after))]),
            request.subject.clone(),
            request.public_key.clone(),
            element(0xa3, &self.extensions(request, usages)?),
        ]);
        let signature = self.key.sign(&body).map_err(|error| error.to_string())?;
        let certificate = sequence(&[body, algorithm, bits(&signature, 0)]);
        let text = STANDARD.encode(certificate);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        Ok(format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")))
    }

    fn extensions(&self, request: &Request, usages: &[String]) -> Result<Vec<u8>, String> {
        const CRITICAL: &[u8] = &[1, 1, 0xff];
        let extension = |arc: u64, critical: bool, value: &[u8]| {
            let flag = if critical { CRITICAL.to_vec() } else { Vec::new() };
            sequence(&[oid(&[2, 5, 29, arc]), flag, octets(value)])
        };
        let (key_usage, purposes) = usages_of(usages)?;
        let mut extensions = Vec::new();
        if key_usage != 0 {
            extensions.push(extension(15, true, &key_usage_bits(key_usage)));
        }
        if !purposes.is_empty() {
            let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
            extensions.push(extension(37, false, &sequence(&purposes)));
        }
        // No authority.
        extensions.push(extension(19, true, &sequence(&[])));
        extensions.push(extension(35, false, &sequence(&[element(0x80, &self.key_id)])));
        if let Some(names) = &request.alternative_names {
            // An empty subject makes the names the only identity, which nobody may overlook.
            extensions.push(extension(17, request.subject == sequence(&[]), names));
        }
        Ok(sequence(&extensions))
    }

    fn algorithm(&self) -> Result<Vec<u8>, String> {
        let algorithm = self.key.algorithm();
        let known: [(_, &[u64], bool); 4] = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &[1, 2, 840, 10045, 4, 3, 2], false),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &[1, 2, 840, 10045, 4, 3, 3], false),
            (&rcgen::PKCS_ED25519, &[1, 3, 101, 112], false),
            (&rcgen::PKCS_RSA_SHA256, &[1, 2, 840, 113_549, 1, 1, 11], true),
        ];
        let found = known.into_iter().find(|(known, ..)| *known == algorithm);
        let (_, arcs, null) = found.ok_or("the authority's key is of an unknown kind")?;
        Ok(sequence(&[oid(arcs), if null { vec![5, 0] } else { Vec::new() }]))
    }
}

/// Whether the first certificate in `pem` has run out.
pub fn has_expired(pem: &[u8], now: Timestamp) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem) else { return false };
    x509_parser::parse_x509_certificate(&der)
        .is_ok_and(|(_, certificate)| timestamp(&certificate.validity().not_after) < now)
}

/// Key usage as a bit per number in RFC 5280, and purposes.
fn usages_of(usages: &[String]) -> Result<(u16, Vec<&'static [u64]>), String> {
    const PURPOSE: [u64; 8] = [1, 3, 6, 1, 5, 5, 7, 3];
    static PURPOSES: [(&str, &[u64]); 13] = [
        ("any", &[2, 5, 29, 37, 0]),
        ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
        ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
        ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
        ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
        ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
        ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
        ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
        ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
        ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
        ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
        ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
    ];
    debug_assert!(PURPOSES[1].1.starts_with(&PURPOSE));
    let (mut bits, mut purposes, mut unknown) = (0, Vec::new(), Vec::new());
    for usage in usages {
        let bit = match usage.as_str() {
            "signing" | "digital signature" => 0,
            "content commitment" => 1,
            "key encipherment" => 2,
            "data encipherment" => 3,
            "key agreement" => 4,
            "cert sign" => 5,
            "crl sign" => 6,
            "encipher only" => 7,
            "decipher only" => 8,
            other => {
                match PURPOSES.iter().find(|(name, _)| *name == other) {
                    Some((_, arcs)) if !purposes.contains(arcs) => purposes.push(*arcs),
                    Some(_) => {}
                    None => unknown.push(format!("{other:?}")),
                }
                continue;
            }
        };
        bits |= 1 << bit;
    }
    if unknown.is_empty() {
        Ok((bits, purposes))
    } else {
        Err(format!("unrecognized usage values: [{}]", unknown.join(" ")))
    }
}

/// A BIT STRING whose first bit is usage 0, without trailing zeros.
fn key_usage_bits(usage: u16) -> Vec<u8> {
    let first = ((usage & 0xff) as u8).reverse_bits();
    let second = ((usage >> 8) as u8).reverse_bits();
    let bytes: &[u8] = if second == 0 { &[first] } else { &[first, second] };
    let unused = bytes.last().map_or(0, |last| last.trailing_zeros());
    bits(bytes, unused as u8)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType,
    };
    use x509_parser::extensions::ParsedExtension;

    use super::*;

    fn authority() -> (Authority, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        (Authority::new(&pem, &key.serialize_pem()).unwrap(), pem)
    }

    fn request(name: &str, organization: &str, hosts: &[&str]) -> Request {
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Request::parse(params.serialize_request(&key).unwrap().pem().unwrap().as_bytes()).unwrap()
    }

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|usage| (*usage).to_owned()).collect()
    }

    #[test]
    fn issued_certificates_are_signed_and_say_what_was_asked() {
        let (authority, ca_pem) = authority();
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let request = request("system:node:n", "system:nodes", &["n.example.com", "10.0.0.1"]);
        let wanted = usages(&["digital signature", "key encipherment", "server auth"]);
        assert_eq!(request.check_kubelet_serving(&wanted), Ok(()));
        assert_eq!(request.check_kubelet_client(&wanted).unwrap_err(), "DNS subjectAltNames are not allowed");
        let pem = authority.issue(&request, &wanted, Some(3600), now).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (rest, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(rest.is_empty());
        let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(certificate.subject().to_string(), "O=system:nodes, CN=system:node:n");
        assert_eq!(certificate.validity().not_after.timestamp(), now.as_second() + 3600);
        assert_eq!(certificate.validity().not_before.timestamp(), now.as_second() - 300);
        assert!(!certificate.is_ca());
        let key_usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(key_usage.digital_signature() && key_usage.key_encipherment() && !key_usage.key_cert_sign());
        let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.server_auth && !purposes.client_auth);
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 2);
        assert!(certificate.extensions().iter().all(|extension| {
            !matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. })
        }));
        assert!(!has_expired(pem.as_bytes(), now));
        assert!(has_expired(pem.as_bytes(), now + Duration::from_secs(3601)));
        let late: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        assert!(authority.issue(&request, &wanted, None, late).is_err());
        assert!(authority.issue(&request, &usages(&["world domination"]), None, now).is_err());
    }

    #[test]
    fn who_asks_must_have_the_key() {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::DnsName("x".try_into().unwrap()));
        let der = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let mut bytes = der.der().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(bytes)
        );
        assert!(Request::parse(pem.as_bytes()).is_err());
        assert!(Request::parse(b"nonsense").is_err());
    }

    #[test]
    fn nodes_ask_for_exactly_what_they_need() {
        let wanted = usages(&["digital signature", "client auth"]);
        assert_eq!(request("system:node:n", "system:nodes", &[]).check_kubelet_client(&wanted), Ok(()));
        let check = |name, organization, list: &[&str]| {
            request(name, organization, &[]).check_kubelet_client(&usages(list)).unwrap_err()
        };
        let ok = ["digital signature", "client auth"];
        assert_eq!(check("system:node:n", "system:masters", &ok), "subject organization is not system:nodes");
        assert_eq!(check("n", "system:nodes", &ok), "subject common name does not begin with system:node:");
        let more =
            check("system:node:n", "system:nodes", &["digital signature", "client auth", "server auth"]);
        assert_eq!(more, "usages did not match [client auth digital signature key encipherment]");
    }
}
