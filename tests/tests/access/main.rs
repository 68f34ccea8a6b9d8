//! Authentication: token requests, access tokens, key sets and the signing key.

mod assertions;
mod discovery;
mod external;
mod fixed_configurations;
mod key_server;
mod key_sets;
mod records;
mod signing;
mod tokens;
