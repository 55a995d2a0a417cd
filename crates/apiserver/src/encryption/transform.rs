//! Single values: encrypted and decrypted, in the forms that upstream stores.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};

use super::Opened;

const SECRETBOX_NONCE_BYTES: usize = 24;
/// The length of the tag that proves that a value was not changed.
const SECRETBOX_TAG_BYTES: usize = 16;

/// Every encrypted value begins so, and no object does.
pub(super) const PREFIX: &[u8] = b"k8s:enc:";

/// One key of one provider.
pub(super) enum Transformer {
    /// As it is.
    Identity,
    /// AES-GCM, with the storage key as associated data.
    Gcm {
        /// `k8s:enc:aesgcm:v1:<name>:`
        prefix: String,
        /// The key.
        key: RandomizedNonceKey,
    },
    /// AES-CBC: secret, but not bound to its key and not protected against changes.
    Cbc {
        /// `k8s:enc:aescbc:v1:<name>:`
        prefix: String,
        /// The key's bytes.
        key: Vec<u8>,
    },
    /// XSalsa20 and Poly1305, as NaCl has them.
    Secretbox {
        /// `k8s:enc:secretbox:v1:<name>:`
        prefix: String,
        /// The key.
        key: Box<XSalsa20Poly1305>,
    },
}

impl Transformer {
    /// AES-GCM with a key of 16 or 32 bytes.
    pub fn gcm(name: &str, key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            length => return Err(format!("a key of {length} bytes; 16 or 32 are needed")),
        };
        let key = RandomizedNonceKey::new(algorithm, key).map_err(|_| "the key is not taken".to_owned())?;
        Ok(Self::Gcm { prefix: format!("k8s:enc:aesgcm:v1:{name}:"), key })
    }

    /// AES-CBC with a key of 16, 24 or 32 bytes.
    pub fn cbc(name: &str, key: &[u8]) -> Result<Self, String> {
        cbc_key(key).map_err(|_| format!("a key of {} bytes; 16, 24 or 32 are needed", key.len()))?;
        Ok(Self::Cbc { prefix: format!("k8s:enc:aescbc:v1:{name}:"), key: key.to_owned() })
    }

    /// Secretbox with a key of 32 bytes.
    pub fn secretbox(name: &str, key: &[u8]) -> Result<Self, String> {
        let key = XSalsa20Poly1305::new_from_slice(key)
            .map_err(|_| format!("a key of {} bytes; 32 are needed", key.len()))?;
        Ok(Self::Secretbox { prefix: format!("k8s:enc:secretbox:v1:{name}:"), key: Box::new(key) })
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Identity => "",
            Self::Gcm { prefix, .. } | Self::Cbc { prefix, .. } | Self::Secretbox { prefix, .. } => prefix,
        }
    }

    fn seal(&self, key_path: &str, value: &Bytes) -> Result<Bytes, aws_lc_rs::error::Unspecified> {
        match self {
            Self::Identity => Ok(value.clone()),
            Self::Gcm { prefix, key } => {
                let mut sealed = value.to_vec();
                let nonce = key.seal_in_place_append_tag(Aad::from(key_path.as_bytes()), &mut sealed)?;
                Ok([prefix.as_bytes(), nonce.as_ref(), &sealed].concat().into())
            }
            Self::Cbc { prefix, key } => {
                let mut sealed = value.to_vec();
                let encrypting = PaddedBlockEncryptingKey::cbc_pkcs7(cbc_key(key)?)?;
                let context = encrypting.encrypt(&mut sealed)?;
                let DecryptionContext::Iv128(iv) = &context else {
                    return Err(aws_lc_rs::error::Unspecified);
                };
                Ok([prefix.as_bytes(), iv.as_ref(), &sealed].concat().into())
            }
            Self::Secretbox { prefix, key } => {
                let nonce =
                    super::new_key::<SECRETBOX_NONCE_BYTES>().map_err(|_| aws_lc_rs::error::Unspecified)?;
                let sealed =
                    key.encrypt(&nonce.into(), value.as_ref()).map_err(|_| aws_lc_rs::error::Unspecified)?;
                Ok([prefix.as_bytes(), &nonce, &sealed].concat().into())
            }
        }
    }

    /// `stored` without its prefix, or why not in upstream's words.
    fn open(&self, key_path: &str, stored: &[u8]) -> Result<Bytes, &'static str> {
        const SHORT: &str = "the stored data was shorter than the required size";
        match self {
            Self::Identity => Err("identity transformer tried to read encrypted data"),
            Self::Gcm { key, .. } => {
                const FAILED: &str = "cipher: message authentication failed";
                let (nonce, sealed) = stored.split_at_checked(NONCE_LEN).ok_or(SHORT)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| FAILED)?;
                let mut value = sealed.to_vec();
                let opened = key.open_in_place(nonce, Aad::from(key_path.as_bytes()), &mut value);
                let length = opened.map_err(|_| FAILED)?.len();
                value.truncate(length);
                Ok(value.into())
            }
            Self::Cbc { key, .. } => {
                const FAILED: &str = "invalid padding on input";
                let (iv, sealed) = stored.split_at_checked(16).ok_or(SHORT)?;
                if sealed.len() % 16 != 0 {
                    return Err("the stored data is not a multiple of the block size");
                }
                let iv = FixedLength::<16>::try_from(iv).map_err(|_| SHORT)?;
                let cipher = cbc_key(key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
                let cipher = cipher.map_err(|_| FAILED)?;
                let mut value = sealed.to_vec();
                let opened = cipher.decrypt(&mut value, DecryptionContext::Iv128(iv));
                let length = opened.map_err(|_| FAILED)?.len();
                value.truncate(length);
                Ok(value.into())
            }
            Self::Secretbox { key, .. } => {
                if stored.len() < SECRETBOX_NONCE_BYTES + SECRETBOX_TAG_BYTES {
                    return Err(SHORT);
                }
                let (nonce, sealed) = stored.split_first_chunk::<SECRETBOX_NONCE_BYTES>().ok_or(SHORT)?;
                let opened = key.decrypt(nonce.into(), sealed);
                opened.map(Bytes::from).map_err(|_| "output array was not large enough for encryption")
            }
        }
    }
}

fn cbc_key(key: &[u8]) -> Result<UnboundCipherKey, aws_lc_rs::error::Unspecified> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(aws_lc_rs::error::Unspecified),
    };
    UnboundCipherKey::new(algorithm, key)
}

/// The stored form of a value: the first transformer's.
pub(super) fn seal(transformers: &[Transformer], key_path: &str, value: &Bytes) -> Result<Bytes, String> {
    let Some(first) = transformers.first() else { return Ok(value.clone()) };
    first.seal(key_path, value).map_err(|_| "the value cannot be encrypted".to_owned())
}

const NO_PREFIX: &str = "no matching prefix found";

/// The value in a stored form, by whichever transformer wrote it.
pub(super) fn open(transformers: &[Transformer], key_path: &str, stored: &Bytes) -> Result<Opened, String> {
    if !stored.starts_with(PREFIX) {
        // Written before encryption was configured. Only with the identity provider is that acceptable.
        let place = transformers.iter().position(|transformer| matches!(transformer, Transformer::Identity));
        let Some(place) = place else { return Err(NO_PREFIX.to_owned()) };
        return Ok(Opened { value: None, stale: place > 0 });
    }
    let mut errors: Vec<&str> = Vec::new();
    for (index, transformer) in transformers.iter().enumerate() {
        let prefix = transformer.prefix().as_bytes();
        let Some(sealed) = (!prefix.is_empty()).then(|| stored.strip_prefix(prefix)).flatten() else {
            continue;
        };
        match transformer.open(key_path, sealed) {
            Ok(value) => return Ok(Opened { value: Some(value), stale: index > 0 }),
            Err(error) if errors.contains(&error) => {}
            Err(error) => errors.push(error),
        }
    }
    Err(match errors.as_slice() {
        [] => NO_PREFIX.to_owned(),
        [one] => (*one).to_owned(),
        all => format!("[{}]", all.join(", ")),
    })
}
