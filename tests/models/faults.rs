//! The list of seeded faults: each is caught by the model that is named beside it.
//!
//! A fault is a memory order that is relaxed, or a step that is left out, by its name in the source
//! (`crate::sync::fault`). Behind a name, ` by acq-rel`: an access that is sequentially consistent is not so any more,
//! but acquires and releases still.

pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) model: &'static str,
    /// Preemptions that it takes.
    pub(crate) bound: usize,
}

macro_rules! faults {
    ($($bound:literal $model:literal: $($name:literal)*;)*) => {
        pub(crate) const FAULTS: &[Fault] = &[
            $($(Fault { name: $name, model: $model, bound: $bound },)*)*
        ];
    };
}

faults! {
    1 "reclaim::publish": "entry.store" "entry.load";
    2 "reclaim::evict": "pin" "grace.wait";
    1 "reclaim::nested": "repin.alone" "unpin.last";
    1 "reclaim::repin": "repin.fence" "grace.mark";
    3 "reclaim::collected_by_another": "grace.over";
    2 "reclaim::repin_lets_go": "tick.advance";
    2 "reclaim::safepoint": "safepoint.holds" "unpin.holds";
    3 "reclaim::safepoint": "safepoint.old_last";
    2 "reclaim::blocking": "safepoint.holds";
    3 "reclaim::blocking_ends": "blocking.pin";
    1 "reclaim::hold": "hold.release" "close" "close.holds";
    1 "reclaim::slot_again": "hold.serial" "close.serial";
    2 "visits::visit": "close.closed" "close.inside" "leave.inside" "leave.closed" "close.closed by acq-rel"
        "close.inside by acq-rel" "leave.inside by acq-rel" "leave.closed by acq-rel";
    3 "names::grow": "list.len.store" "list.len.load" "symbols.add";
    3 "names::forget": "symbols.begin" "symbols.end" "symbols.load" "symbols.discard" "symbols.readers" "symbols.wait"
         "symbols.begin by acq-rel" "symbols.readers by acq-rel" "symbols.load by acq-rel" "symbols.discard by acq-rel";
    2 "keys::look_up": "map.push" "map.link" "map.wait";
    2 "keys::grow": "map.array.load" "map.array.store";
    2 "keys::forgotten": "grace.wait" "map.push" "map.link";
    2 "keys::look_while_it_grows": "grace.wait" "map.array.load" "map.array.store";
    2 "keys::go_past": "map.grave";
    2 "keys::make_twice": "map.compared";
    2 "keys::number_again": "look.gone" "unlink.gone" "entry.load";
    2 "keys::number_given_back": "forget.gone_first";
    1 "keys::marked_by_another": "map.mark" "map.over";
    2 "keys::reclaimed": "forgotten.grace";
    2 "keys::one_cell": "forget.own" "intern.stands";
    2 "keys::cell_again": "give_back.empty";
    2 "evicting::retire": "retire.unlinked_first" "evict.unlink" "recycle.grace";
    2 "evicting::probation": "probation.called" "relink";
    2 "evicting::lease": "recycle.held";
    2 "evicting::ticket": "ticket.notify" "recycle.grace";
    2 "asking::single_flight": "enqueue.once";
    2 "asking::invalidated": "publish.version" "invalidate.version";
    2 "asking::assumption_falls": "publish.bonds" "assumption.advance" "assumption.read";
    2 "asking::asked_again": "begun.phase";
    2 "asking::one_gives_up": "end_waiting.last";
    2 "asking::wish_stays": "end_waiting.wished";
    2 "ending::worker": "queue.push.notify" "queue.close.notify" "publish.notify" "queue.close";
    2 "ending::shut_down": "give_up.notify";
    1 "ending::bell": "bell.rung" "bell.notify";
    2 "ending::telling": "telling.again";
}
