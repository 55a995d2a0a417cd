//! Front proxies that authenticate users themselves: their client certificate is trusted to say who the
//! user is, in `X-Remote-…` headers.

use std::collections::BTreeMap;

use api::user::UserInfo;
use http::{HeaderMap, HeaderName};

use crate::authn::certificate::CertificateAuthorities;
use crate::query::percent_decode;

/// Upstream's `--requestheader-…` options.
#[derive(Debug)]
pub struct FrontProxy {
    /// Which authority vouches for whom.
    pub authorities: CertificateAuthorities,
    /// Common names that are trusted; all that the authority vouches for, if empty.
    pub allowed_names: Vec<String>,
    /// Headers of the user name, the first that is there counts.
    pub username_headers: Vec<String>,
    /// Headers of the uid.
    pub uid_headers: Vec<String>,
    /// Headers of groups, each may come several times.
    pub group_headers: Vec<String>,
    /// Prefixes of headers with extra attributes.
    pub extra_prefixes: Vec<String>,
}

const USUAL: [&str; 3] = ["x-remote-user", "x-remote-uid", "x-remote-group"];
const USUAL_PREFIX: &str = "x-remote-extra-";

impl FrontProxy {
    /// With the usual header names.
    pub fn new(authorities: CertificateAuthorities, allowed_names: Vec<String>) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            authorities,
            allowed_names,
            username_headers: one(USUAL[0]),
            uid_headers: one(USUAL[1]),
            group_headers: one(USUAL[2]),
            extra_prefixes: one(USUAL_PREFIX),
        }
    }

    pub(super) fn trusts(&self, name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|allowed| allowed == name)
    }

    /// Whom the headers name.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let values = |name: &String| -> Vec<String> {
            let values = headers.get_all(name.as_str()).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let first = |names: &[String]| {
            names.iter().filter_map(|name| values(name).into_iter().next()).find(|value| !value.is_empty())
        };
        let name = first(&self.username_headers)?;
        let groups = self.group_headers.iter().flat_map(values).filter(|group| !group.is_empty()).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefixes {
            for (name, value) in headers {
                let (Some(key), Ok(value)) = (without_prefix(name, prefix), value.to_str()) else { continue };
                let key = percent_decode(key, false).unwrap_or_else(|| key.to_owned());
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(UserInfo { name, uid: first(&self.uid_headers).unwrap_or_default(), groups, extra })
    }
}

fn without_prefix<'a>(name: &'a HeaderName, prefix: &str) -> Option<&'a str> {
    let name = name.as_str();
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Takes identity headers out, whoever sent them: nothing behind the API server may believe them.
pub(super) fn clear(headers: &mut HeaderMap, proxy: Option<&FrontProxy>) {
    let mut names: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        let own = proxy.is_some_and(|proxy| {
            let listed = [&proxy.username_headers, &proxy.uid_headers, &proxy.group_headers];
            listed.into_iter().flatten().any(|header| name.as_str().eq_ignore_ascii_case(header))
                || proxy.extra_prefixes.iter().any(|prefix| without_prefix(name, prefix).is_some())
        });
        if own || USUAL.contains(&name.as_str()) || name.as_str().starts_with(USUAL_PREFIX) {
            names.push(name.clone());
        }
    }
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user() {
        let ca = crate::pki::Pki::ephemeral().unwrap();
        let authorities = CertificateAuthorities::new(ca.ca_pem(), ca.ca_pem()).unwrap();
        let proxy = FrontProxy::new(authorities, vec!["front".to_owned()]);
        assert!(proxy.trusts("front") && !proxy.trusts("other"));
        let mut headers = HeaderMap::new();
        assert!(proxy.user(&headers).is_none());
        for (name, value) in [
            ("x-remote-user", "carol"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-acme.io%2fscopes", "x"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let user = proxy.user(&headers).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.as_slice()),
            ("carol", &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(user.extra["acme.io/scopes"], ["x"]);
        clear(&mut headers, Some(&proxy));
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
