//! A bare API server on a memory store: `serve PORT [TOKEN_FILE]`.

use std::sync::Arc;

use apiserver::{ApiServer, Config, parse_token_file, pki::Pki, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap_or_else(|| "16443".to_owned()).parse()?;
    let pki = Pki::ephemeral()?;
    let mut config = Config::new(Arc::new(store::Memory::new()));
    config.registry = apiserver::kind::Registry::builtin();
    config.service_account_key_pem = pki.service_account_key_pem().to_owned();
    if let Some(path) = arguments.next() {
        config.tokens = parse_token_file(&std::fs::read_to_string(path)?)?;
    }
    let server = ApiServer::start(config).await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let tls = pki.server_config(&[], &[])?;
    println!("https://127.0.0.1:{port}");
    serve(listener, tls, server, std::future::pending()).await;
    Ok(())
}
