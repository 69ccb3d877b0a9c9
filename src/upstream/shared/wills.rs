//! Wills: kept here and published here. If the gateway itself dies they are not published; then its own
//! Will says so on its status topic.

use std::sync::Arc;

use super::router::Pending;
use super::{Context, NodeKey, Shared};
use crate::upstream::Will;

impl Shared {
    pub(super) fn change_will(&mut self, node: NodeKey, will: Option<Arc<Will>>) {
        if let Some(member) = self.members.get_mut(node) {
            member.will = will;
        }
    }

    /// The node is lost: publishes its Will, once.
    pub(super) fn fire_will(&mut self, node: NodeKey, cx: &mut Context<'_>) {
        let Some(member) = self.members.get_mut(node) else {
            return;
        };
        let (home, will) = (member.home, member.will.take());
        let Some(will) = will else { return };
        tracing::debug!(
            node = &*member.client_id,
            topic = &*will.topic,
            "Will published"
        );
        self.publish_own(home, &will, Pending::Own, cx);
    }
}
