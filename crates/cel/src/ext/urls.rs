//! `url()`, `isURL()` and the parts of URLs.

use std::collections::BTreeMap;

use super::net_url::Url;
use super::{cost, opaque};
use crate::{Error, Function, Key, Map, Opaque, Overload, Type, Value};

/// A URL; two are equal if their texts are.
#[derive(Clone, Debug)]
struct UrlValue(Url);

impl PartialEq for UrlValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl Opaque for UrlValue {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> Option<bool> {
        opaque::equal(self, other)
    }
}

fn ty() -> Type {
    Type::object("kubernetes.URL")
}

pub(super) fn functions() -> Vec<Function> {
    let access = |name, overload: Overload| {
        Function::new(name).overload(overload.cost(cost::estimate_nominal, cost::actual_nominal))
    };
    let text = |name, id, call| access(name, Overload::member(id, [ty()], Type::String, call));
    let query = Type::map(Type::String, Type::list(Type::String));
    vec![
        Function::new("url").overload(
            Overload::global("string_to_url", [Type::String], ty(), from_string)
                .cost(cost::estimate_parse_sized, cost::actual_traverse),
        ),
        Function::new("isURL").overload(Overload::global(
            "is_url_string",
            [Type::String],
            Type::Bool,
            is_url,
        )),
        text("getScheme", "url_get_scheme", |args| part(args, |url| url.scheme.clone().into_bytes())),
        text("getHost", "url_get_host", |args| part(args, |url| url.host.clone())),
        text("getHostname", "url_get_hostname", |args| part(args, |url| url.hostname().to_vec())),
        text("getPort", "url_get_port", |args| part(args, |url| url.port().to_vec())),
        text("getEscapedPath", "url_get_escaped_path", |args| part(args, Url::escaped_path)),
        access("getQuery", Overload::member("url_get_query", [ty()], query, get_query)),
    ]
}

fn from_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text = opaque::text(args)?;
    let url = Url::check_request_uri(text).and_then(|()| Url::parse(text));
    let url =
        url.map_err(|why| Error::new(format!("URL parse error during conversion from string: {why}")))?;
    Ok(Value::opaque(UrlValue(url)))
}

fn is_url<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(Url::check_request_uri(opaque::text(args)?).is_ok()))
}

fn part<'a>(args: &[Value<'a>], part: fn(&Url) -> Vec<u8>) -> Result<Value<'a>, Error> {
    Ok(string(&part(&opaque::receiver::<UrlValue>(args)?.0)))
}

/// What was percent-encoded need not be UTF-8, but strings are.
fn string<'a>(bytes: &[u8]) -> Value<'a> {
    Value::from(String::from_utf8_lossy(bytes).into_owned())
}

fn get_query<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let url = &opaque::receiver::<UrlValue>(args)?.0;
    let entries: BTreeMap<Key<'a>, Value<'a>> = url
        .query()
        .iter()
        .filter_map(|(key, values)| {
            let values = values.iter().map(|value| string(value)).collect();
            Some((Key::of(&string(key))?, Value::list(values)))
        })
        .collect();
    Ok(Value::Map(Map::from(entries)))
}

/// What is wrong with a text as a URL, for the format `uri`.
pub(super) fn check(text: &str) -> Option<String> {
    Url::check_request_uri(text).err()
}
