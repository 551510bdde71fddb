//! Live storage nodes for operators: one ephemeral sequential node each, gone with the session of the active
//! coordinator.

use bytes::Bytes;
use zookeeper_client::{Client, CreateMode, Error, MultiWriteResult};

use crate::store::{
    StoreError,
    zookeeper::{
        failure::{bounded, is_session_over, parts},
        place::{Folder, Place, clean, member_name},
        session::Session,
    },
};

/// Shows a member, or no longer.
pub(super) async fn publish(
    place: &Place,
    session: &Session,
    name: &str,
    member: Option<Bytes>,
) -> Result<(), StoreError> {
    let client = session.client().ok_or(StoreError::NotActive)?;
    let name = clean(name);
    let mut members = session.members.lock().await;
    let known = match members.get(&name) {
        None => None,
        Some(Some(path)) => Some(path.clone()),
        // An earlier answer did not come.
        Some(None) => find(place, &client, &name).await?,
    };
    // Until the answer is there, nothing is known of it.
    members.insert(name.clone(), None);
    let changed = match (&member, known) {
        (Some(data), Some(path)) => match change(session, &client, &path, Some(data)).await {
            // Somebody removed it by hand.
            Err((Some(1), Error::NoNode)) => create(place, session, &client, &name, data).await,
            changed => changed.map(|()| Some(path)),
        },
        (Some(data), None) => create(place, session, &client, &name, data).await,
        (None, Some(path)) => match change(session, &client, &path, None).await {
            Ok(()) | Err((Some(1), Error::NoNode)) => Ok(None),
            Err(failed) => Err(failed),
        },
        (None, None) => Ok(None),
    };
    match changed {
        Ok(Some(path)) => drop(members.insert(name, Some(path))),
        Ok(None) => drop(members.remove(&name)),
        Err((at, error)) => {
            if is_session_over(&error) || (at == Some(0) && matches!(error, Error::NoNode)) {
                session.tenure.end();
                return Err(StoreError::NotActive);
            }
            return Err(place.error(&place.folder(Folder::Members), &error));
        }
    }
    Ok(())
}

type Failed = (Option<usize>, Error);

/// Replaces or removes a node, if this process is the active coordinator.
async fn change(
    session: &Session,
    client: &Client,
    path: &str,
    data: Option<&Bytes>,
) -> Result<(), Failed> {
    let unsent = |error| (None, error);
    let mut writer = client.new_multi_writer();
    writer
        .add_check_version(&session.candidate, -1)
        .map_err(unsent)?;
    match data {
        Some(data) => writer.add_set_data(path, data, None),
        None => writer.add_delete(path, None),
    }
    .map_err(unsent)?;
    bounded(writer.commit()).await.map_err(parts)?;
    Ok(())
}

/// Makes a node, if this process is the active coordinator; its path.
async fn create(
    place: &Place,
    session: &Session,
    client: &Client,
    name: &str,
    data: &Bytes,
) -> Result<Option<String>, Failed> {
    let unsent = |error| (None, error);
    let path = format!("{}/{name}-", place.folder(Folder::Members));
    let options = CreateMode::EphemeralSequential.with_acls(place.rights(true));
    let mut writer = client.new_multi_writer();
    writer
        .add_check_version(&session.candidate, -1)
        .map_err(unsent)?;
    writer.add_create(&path, data, &options).map_err(unsent)?;
    let made = bounded(writer.commit()).await.map_err(parts)?;
    made.into_iter()
        .find_map(|result| match result {
            MultiWriteResult::Create { path, .. } => Some(Some(path)),
            _ => None,
        })
        .ok_or_else(|| unsent(Error::UnexpectedError("no path in an answer".to_owned())))
}

/// The node of this session for a member, if there is one.
async fn find(place: &Place, client: &Client, name: &str) -> Result<Option<String>, StoreError> {
    let folder = place.folder(Folder::Members);
    let own = client.session_id().0;
    let found = bounded(async {
        for node in client.list_children(&folder).await? {
            if member_name(&node) != Some(name) {
                continue;
            }
            let path = format!("{folder}/{node}");
            let stat = client.check_stat(&path).await?;
            if stat.is_some_and(|stat| stat.ephemeral_owner == own) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    });
    found.await.map_err(|error| place.error(&folder, &error))
}
