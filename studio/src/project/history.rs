//! Changes that can be taken back, and done again, without limit.

use super::{Action, Change, ClassId, Project};

/// What is done by the owner at once, as [`History::back`] takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The opposites, in the order in which they are done.
    changes: Vec<Change>,
    /// What belongs together although it comes one after the other.
    gift: Option<u32>,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct History {
    done: Vec<Step>,
    undone: Vec<Step>,
    /// Ids of classes from here on were never given.
    next_class: u32,
}

impl History {
    /// Does what the owner wants; whether anything has changed. What `gift` says belongs together is one step.
    pub(crate) fn act(&mut self, project: &mut Project, action: Action, gift: Option<u32>) -> bool {
        let changes = action.changes(project, project.free_id(self.next_class));
        if changes.is_empty() {
            return false;
        }
        let mut opposites = Vec::with_capacity(changes.len());
        for change in changes {
            if let Change::PutClass(_, class) = &change {
                self.keep_free(class.id);
            }
            opposites.push(project.apply(change));
        }
        opposites.reverse();
        self.undone.clear();
        match self.done.last_mut() {
            Some(last) if gift.is_some() && last.gift == gift => {
                opposites.append(&mut last.changes);
                last.changes = opposites;
            }
            _ => self.done.push(Step { changes: opposites, gift }),
        }
        true
    }

    fn keep_free(&mut self, id: ClassId) {
        self.next_class = self.next_class.max(id.0.wrapping_add(1));
    }

    /// Takes the last step back; whether there was one.
    pub(crate) fn back(&mut self, project: &mut Project) -> bool {
        let Some(step) = self.done.pop() else { return false };
        self.undone.push(turn(project, step));
        true
    }

    /// Does the step again that was taken back last; whether there was one.
    pub(crate) fn forth(&mut self, project: &mut Project) -> bool {
        let Some(step) = self.undone.pop() else { return false };
        self.done.push(turn(project, step));
        true
    }

    /// Whether something can be taken back.
    pub(crate) fn can_go_back(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether something can be done again.
    pub(crate) fn can_go_forth(&self) -> bool {
        !self.undone.is_empty()
    }
}

/// Does a step, and returns the one that takes it back. Nothing is added to either.
fn turn(project: &mut Project, step: Step) -> Step {
    let mut changes: Vec<Change> =
        step.changes.into_iter().map(|change| project.apply(change)).collect();
    changes.reverse();
    Step { changes, gift: None }
}
