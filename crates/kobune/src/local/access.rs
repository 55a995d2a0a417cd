//! Options of authentication, the audit log and encryption, by upstream's names.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use cluster::{AccessOptions, LogConfig, oidc};

/// Who may come in, what is recorded, what is encrypted
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Access")]
#[group(id = "access")]
pub struct Args {
    /// Providers of users and anonymous access: a file of kind AuthenticationConfiguration
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,
    /// An OpenID Connect provider whose ID tokens are taken
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// For whom its tokens must be
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// The claim with the user name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    oidc_username_claim: String,
    /// What goes before the user name; - for nothing [default: the URL and #, nothing for email]
    #[arg(long, value_name = "PREFIX")]
    oidc_username_prefix: Option<String>,
    /// The claim with the groups
    #[arg(long, value_name = "CLAIM", default_value = "")]
    oidc_groups_claim: String,
    /// What goes before each group
    #[arg(long, value_name = "PREFIX", default_value = "")]
    oidc_groups_prefix: String,
    /// A claim that must have a value
    #[arg(long, value_name = "CLAIM=VALUE")]
    oidc_required_claim: Vec<String>,
    /// How tokens may be signed
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
    /// The authority of the provider's server
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// The authority of front proxies, which say in X-Remote-… headers who the user is
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies [default: all that the authority vouches for]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Which requests are recorded: a file of kind Policy
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where they are recorded; - for standard output [default: audit.log where the cluster is kept]
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// Megabytes of the log before it is put aside
    #[arg(long, value_name = "MEGABYTES", default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Logs that were put aside and are kept; 0 for all
    #[arg(long, value_name = "FILES", default_value_t = 10)]
    audit_log_maxbackup: usize,
    /// Days for which they are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    audit_log_maxage: u64,
    /// How the store is encrypted: a file of kind EncryptionConfiguration [default: secrets, by a key of this cluster]
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
}

impl Args {
    /// The settings.
    pub fn options(&self) -> Result<AccessOptions> {
        Ok(AccessOptions {
            authentication_config: self.authentication_config.clone(),
            oidc: self.provider()?,
            oidc_ca_file: self.oidc_ca_file.clone(),
            requestheader_client_ca_file: self.requestheader_client_ca_file.clone(),
            requestheader_allowed_names: self.requestheader_allowed_names.clone(),
            audit_policy_file: self.audit_policy_file.clone(),
            audit_log: LogConfig {
                path: self.audit_log_path.clone().unwrap_or_default(),
                max_megabytes: self.audit_log_maxsize,
                max_backups: self.audit_log_maxbackup,
                max_age_days: self.audit_log_maxage,
            },
            encryption_config: self.encryption_provider_config.clone(),
        })
    }

    fn provider(&self) -> Result<Option<oidc::Options>> {
        let Some(url) = self.oidc_issuer_url.clone() else { return Ok(None) };
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if self.oidc_username_claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let mut required_claims = Vec::new();
        for claim in &self.oidc_required_claim {
            let pair = claim.split_once('=');
            ensure!(pair.is_some(), "--oidc-required-claim {claim}: must be CLAIM=VALUE");
            required_claims.extend(pair.map(|(claim, value)| (claim.to_owned(), value.to_owned())));
        }
        let claim = |claim: &str, prefix: String| oidc::PrefixedClaim { claim: claim.to_owned(), prefix };
        let options = oidc::Options {
            audiences: self.oidc_client_id.iter().cloned().collect(),
            username: claim(&self.oidc_username_claim, prefix),
            groups: claim(&self.oidc_groups_claim, self.oidc_groups_prefix.clone()),
            required_claims,
            signing_algorithms: self.oidc_signing_algs.clone(),
            issuer_url: url,
            ..oidc::Options::default()
        };
        options.check().map_err(anyhow::Error::msg)?;
        Ok(Some(options))
    }
}
