//! What the coordination stores of the tests have in common: servers that run as child processes, can be killed, paused
//! and started again, and end with the test.

use std::{
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The servers of a store, each in its place. They end when this is dropped.
#[derive(Debug)]
pub struct Processes {
    children: Mutex<Vec<Option<Child>>>,
}

/// A coordination store on the loopback interface, in the hands of a test.
pub trait Ensemble: Sized + Send + Sync + 'static {
    /// What the coordinators call it.
    const STORE: &'static str;

    /// Starts so many servers and waits until they have a leader.
    ///
    /// # Errors
    /// When its program is not there or does not come up.
    fn start(servers: usize) -> impl Future<Output = Result<Self>> + Send;

    /// Its servers.
    fn processes(&self) -> &Processes;

    /// Starts the server of a place, which does not run.
    ///
    /// # Errors
    /// When its process cannot be started.
    fn spawn(&self, place: usize) -> Result<Child>;

    /// Where each server is, as the coordinators' `store_endpoints` say it.
    fn endpoints(&self) -> Vec<String>;

    /// Waits for a leader that a majority knows; its place.
    ///
    /// # Errors
    /// When there is none for too long.
    fn leader(&self) -> impl Future<Output = Result<usize>> + Send;

    /// What runs, in words: version and number of members.
    ///
    /// # Errors
    /// When it does not answer.
    fn describe(&self) -> impl Future<Output = Result<String>> + Send;

    /// Its own view of the live storage nodes of a cluster: their JSON.
    ///
    /// # Errors
    /// When it does not answer.
    fn members(&self, cluster: &str) -> impl Future<Output = Result<Vec<Value>>> + Send;

    /// Takes the place of a cluster's active coordinator away from it, behind its back.
    ///
    /// # Errors
    /// When none is active.
    fn depose(&self, cluster: &str) -> impl Future<Output = Result<()>> + Send;

    /// Starts what does not run, and lets go on what is paused.
    ///
    /// # Errors
    /// When a process cannot be started.
    fn start_all(&self) -> Result<()> {
        self.processes().start_all(|place| self.spawn(place))
    }

    /// Kills the server of a place.
    ///
    /// # Errors
    /// When it does not run.
    fn kill(&self, place: usize) -> Result<()> {
        self.processes().kill(place)
    }

    /// Kills every server that runs.
    ///
    /// # Errors
    /// When one cannot be killed.
    fn kill_all(&self) -> Result<()> {
        self.processes().kill_all()
    }

    /// Pauses the server of a place.
    ///
    /// # Errors
    /// When it does not run.
    fn pause(&self, place: usize) -> Result<()> {
        self.processes().pause(place)
    }

    /// Pauses every server.
    ///
    /// # Errors
    /// When one does not run.
    fn pause_all(&self) -> Result<()> {
        let mut places = 0..self.processes().count();
        places.try_for_each(|place| self.pause(place))
    }
}

impl Processes {
    /// So many places, in which nothing runs.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            children: Mutex::new((0..count).map(|_| None).collect()),
        }
    }

    /// How many places there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.children().len()
    }

    /// In how many of them something runs.
    #[must_use]
    pub fn running(&self) -> usize {
        self.children().iter().flatten().count()
    }

    fn children(&self) -> MutexGuard<'_, Vec<Option<Child>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_all(&self, spawn: impl Fn(usize) -> Result<Child>) -> Result<()> {
        for (place, child) in self.children().iter_mut().enumerate() {
            match child {
                Some(child) => signal(child, Signal::CONT)?,
                None => *child = Some(spawn(place)?),
            }
        }
        Ok(())
    }

    fn kill(&self, place: usize) -> Result<()> {
        let child = self.children()[place].take();
        let mut child = child.context("this server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn kill_all(&self) -> Result<()> {
        for mut child in self.children().iter_mut().filter_map(Option::take) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn pause(&self, place: usize) -> Result<()> {
        let children = self.children();
        let child = children[place].as_ref();
        signal(child.context("this server does not run")?, Signal::STOP)
    }
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

impl Drop for Processes {
    fn drop(&mut self) {
        // A process that is gone already needs no killing.
        self.kill_all().ok();
    }
}
