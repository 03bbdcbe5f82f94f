//! The models: what each is about stands at its function.

mod asking;
mod ending;
mod evicting;
mod keys;
mod names;
mod reclaim;
mod visits;
mod world;

pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// At most so many preemptions in the short form, and in the long one.
    pub(crate) bounds: (usize, usize),
    pub(crate) run: fn(),
}

macro_rules! models {
    ($($module:ident::$name:ident $short:literal $long:literal,)*) => {
        pub(crate) const MODELS: &[Model] = &[
            $(Model {
                name: concat!(stringify!($module), "::", stringify!($name)),
                bounds: ($short, $long),
                run: $module::$name,
            },)*
        ];
    };
}

models! {
    reclaim::publish 3 3,
    reclaim::evict 3 3,
    reclaim::nested 3 3,
    reclaim::repin 1 3,
    reclaim::repin_lets_go 3 3,
    reclaim::safepoint 3 3,
    reclaim::blocking 3 3,
    reclaim::blocking_ends 3 3,
    reclaim::collected_by_another 3 3,
    reclaim::hold 3 3,
    reclaim::slot_again 3 3,
    visits::visit 3 3,
    names::grow 3 3,
    names::forget 3 3,
    keys::look_up 3 3,
    keys::grow 3 3,
    keys::one_cell 3 3,
    keys::cell_again 3 3,
    keys::forgotten 2 3,
    keys::look_while_it_grows 2 3,
    keys::go_past 3 3,
    keys::make_twice 3 3,
    keys::marked_by_another 2 3,
    keys::number_again 2 3,
    keys::number_given_back 2 3,
    keys::reclaimed 2 3,
    evicting::recycle 3 3,
    evicting::retire 2 3,
    evicting::compile_again 1 3,
    evicting::lease 3 3,
    evicting::resolve 1 3,
    evicting::probation 2 3,
    evicting::ticket 1 2,
    asking::single_flight 2 3,
    asking::fails 2 3,
    asking::invalidated 2 3,
    asking::assumption_falls 2 3,
    asking::promoted 3 3,
    asking::asked_again 3 3,
    asking::one_gives_up 3 3,
    asking::wish_stays 3 3,
    ending::worker 3 3,
    ending::shut_down 2 3,
    ending::bell 3 3,
    ending::telling 3 3,
}
