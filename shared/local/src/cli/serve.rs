//! Command line of `headrace serve`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::whole_number::whole_number;
use super::{AccessOptions, EventOptions, ServiceOptions};

/// Arguments of `headrace serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The directory of NDJSON files (plain, .gz, .zst) to serve
    pub lake: PathBuf,
    /// The address to listen on
    #[arg(long, env = "HEADRACE_LISTEN", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub listen: IpAddr,
    /// The port to listen on; 0 picks a free one
    #[arg(long, env = "HEADRACE_PORT", default_value_t = 8080, value_parser = whole_number::<u16>(0, 65_535))]
    pub port: u16,
    /// With --access none, allow listening on a non-loopback address: anyone on the network can export
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// Allow listening on a non-loopback address with access control. A proxy in front must terminate TLS, because this
    /// server speaks plain HTTP
    #[arg(long)]
    pub behind_tls_proxy: bool,
    #[command(flatten)]
    /// Access control.
    pub access: AccessOptions,
    #[command(flatten)]
    /// Events.
    pub events: EventOptions,
    /// The state folder: jobs, registrations and exported files
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    /// Settings of the exports.
    pub service: ServiceOptions,
}
