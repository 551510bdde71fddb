//! Connecting to the cluster that `--url` names.

use quorate_client::{Address, Client, Error};

use crate::{
    arguments::Common,
    limits::{CONNECT, PATIENCE},
};

/// Connects, and fails soon if nobody answers; what is done through the client is more patient.
pub(crate) async fn connect(common: &Common) -> Result<Client, Error> {
    let address: Address = common.url.parse()?;
    Client::connect(address.clone().with_default_timeout(CONNECT)).await?;
    Client::connect(address.with_default_timeout(PATIENCE)).await
}
