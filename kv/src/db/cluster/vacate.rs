//! A node that shall hold no replicas any more and holds some: the coordinator has them moved, and the
//! node says how far that is.

use std::sync::Weak;
use std::time::Duration;

use crate::db::node::Node;

/// How often it is looked how many are left.
const EVERY: Duration = Duration::from_secs(1);

/// Says in the log how many replicas are left, whenever that has changed, until there are none.
pub(in crate::db) async fn tell_what_is_left(node: Weak<Node>) {
    let mut said = 0;
    loop {
        let Some(strong) = node.upgrade() else { return };
        let replicas = strong.replicas().len();
        if replicas != said {
            match replicas {
                0 => tracing::info!("this node holds no replicas any more"),
                _ => tracing::warn!(
                    replicas,
                    "this node does not have the role data: its replicas are to be moved to others"
                ),
            }
        }
        if replicas == 0 {
            return;
        }
        said = replicas;
        let runtime = strong.runtime.clone();
        drop(strong);
        runtime.sleep(EVERY).await;
    }
}
