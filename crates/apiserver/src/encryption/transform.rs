//! Single values: encrypted and decrypted, in the forms that upstream stores.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;

use super::Opened;

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

    fn prefix(&self) -> &str {
        match self {
            Self::Identity => "",
            Self::Gcm { prefix, .. } | Self::Cbc { prefix, .. } => prefix,
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
        }
    }

    /// `stored` without its prefix.
    fn open(&self, key_path: &str, stored: &[u8]) -> Option<Bytes> {
        match self {
            Self::Identity => None,
            Self::Gcm { key, .. } => {
                let (nonce, sealed) = stored.split_at_checked(NONCE_LEN)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let mut value = sealed.to_vec();
                let length = key.open_in_place(nonce, Aad::from(key_path.as_bytes()), &mut value).ok()?.len();
                value.truncate(length);
                Some(value.into())
            }
            Self::Cbc { key, .. } => {
                let (iv, sealed) = stored.split_at_checked(16)?;
                let iv = FixedLength::<16>::try_from(iv).ok()?;
                let decrypting = PaddedBlockDecryptingKey::cbc_pkcs7(cbc_key(key).ok()?).ok()?;
                let mut value = sealed.to_vec();
                let length = decrypting.decrypt(&mut value, DecryptionContext::Iv128(iv)).ok()?.len();
                value.truncate(length);
                Some(value.into())
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

/// The value in a stored form, by whichever transformer wrote it.
pub(super) fn open(transformers: &[Transformer], key_path: &str, stored: &Bytes) -> Result<Opened, String> {
    if !stored.starts_with(PREFIX) {
        // Written before encryption was configured. Only with the identity provider is that acceptable.
        let place = transformers.iter().position(|transformer| matches!(transformer, Transformer::Identity));
        let Some(place) = place else {
            return Err("the value is not encrypted, and the identity provider is not configured".to_owned());
        };
        return Ok(Opened { value: None, stale: place > 0 });
    }
    let mut tried = false;
    for (index, transformer) in transformers.iter().enumerate() {
        let prefix = transformer.prefix().as_bytes();
        let Some(sealed) = (!prefix.is_empty()).then(|| stored.strip_prefix(prefix)).flatten() else {
            continue;
        };
        tried = true;
        if let Some(value) = transformer.open(key_path, sealed) {
            return Ok(Opened { value: Some(value), stale: index > 0 });
        }
    }
    Err(if tried {
        "the value cannot be decrypted: it was changed, or belongs to another key".to_owned()
    } else {
        "no matching key was found for the encrypted value".to_owned()
    })
}
