//! What of the cache is set by flags, to be compared: who goes when memory is short, and what of
//! those that stay is moved together. Other strategies evict nothing, and have no use for it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Victims {
    Plain,
    #[default]
    Generation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    #[default]
    Lru,
    Sieve,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub evacuate: bool,
    /// Bytes that may be moved for each byte that comes back; the cache's own default if `None`.
    pub work: Option<f64>,
    pub victims: Victims,
    /// Whether the front end tells what stays apart from what will change.
    pub groups: bool,
    pub policy: Policy,
    /// Quick code first, and good code where that pays; else all of one level.
    #[serde(default)]
    pub tiers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            evacuate: true,
            work: None,
            victims: Victims::default(),
            groups: false,
            policy: Policy::default(),
            tiers: false,
        }
    }
}

impl Settings {
    /// Takes a flag's value, if the flag is one of these. False if it is not.
    pub fn take(
        &mut self,
        flag: &str,
        mut value: impl FnMut() -> Result<String, String>,
    ) -> Result<bool, String> {
        match flag {
            "--evacuate" => self.evacuate = one_of(flag, &value()?, SWITCH)?,
            "--work" => self.work = Some(work(&value()?)?),
            "--victims" => self.victims = one_of(flag, &value()?, VICTIMS)?,
            "--groups" => self.groups = one_of(flag, &value()?, SWITCH)?,
            "--tiers" => self.tiers = one_of(flag, &value()?, SWITCH)?,
            "--policy" => self.policy = one_of(flag, &value()?, POLICIES)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The flags that say all this.
    pub fn flags(&self) -> Vec<String> {
        let [evacuate, groups, tiers] =
            [self.evacuate, self.groups, self.tiers].map(|on| name_of(&on, SWITCH));
        let mut flags = vec![
            format!("--evacuate={evacuate}"),
            format!("--victims={}", name_of(&self.victims, VICTIMS)),
            format!("--groups={groups}"),
            format!("--tiers={tiers}"),
            format!("--policy={}", name_of(&self.policy, POLICIES)),
        ];
        flags.extend(self.work.map(|work| format!("--work={work}")));
        flags
    }

    /// As the report says it.
    pub fn sentence(&self) -> String {
        let victims = match self.victims {
            Victims::Plain => "the coldest methods are evicted first",
            Victims::Generation => "methods are evicted with their generations in mind",
        };
        let evacuate = match self.evacuate {
            true => "the survivors of sparse generations are moved together",
            false => "no method is moved",
        };
        let groups = match self.groups {
            true => ", and what will change is compiled apart from what will not",
            false => "",
        };
        let policy = name_of(&self.policy, POLICIES);
        let tiers = match self.tiers {
            true => ", and methods come to O2 when they are called often",
            false => "",
        };
        format!("In pooled {victims} (policy {policy}), {evacuate}{groups}{tiers}.")
    }
}

type Names<T> = [(&'static str, T); 2];

const SWITCH: Names<bool> = [("on", true), ("off", false)];
const VICTIMS: Names<Victims> = [
    ("plain", Victims::Plain),
    ("generation", Victims::Generation),
];
const POLICIES: Names<Policy> = [("lru", Policy::Lru), ("sieve", Policy::Sieve)];

fn one_of<T>(flag: &str, text: &str, names: Names<T>) -> Result<T, String> {
    let [(first, _), (second, _)] = &names;
    let error = format!("{flag}: {text} is neither {first} nor {second}");
    let found = names.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| value).ok_or(error)
}

fn name_of<T: PartialEq>(value: &T, names: Names<T>) -> &'static str {
    let [(first, is_first), (second, _)] = names;
    if *value == is_first { first } else { second }
}

fn work(text: &str) -> Result<f64, String> {
    let work = text.parse().ok();
    work.filter(|work| *work > 0.0 && *work <= 1e6)
        .ok_or(format!("--work: {text} is no number above 0"))
}
