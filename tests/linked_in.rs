//! Front ends that link modules of their own into the batch's, by inkwell's safe functions: what was only declared is
//! replaced or deleted by that, the method's own function too.

mod support;

use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::inkwell::module::Linkage;
use inkpot::{BoxError, Cache, Error, Frontend, Unit};

type Constant = unsafe extern "C" fn() -> i64;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Way {
    /// The body comes in with the module, by the name of the method's function.
    Body,
    /// There is no body, and an alias comes in.
    Alias,
    /// The function is made private when it has its body, and an alias comes in.
    Private,
    /// The function is defined once more after its body has come in.
    Again,
    /// Good company.
    Plain,
}

struct Links;

impl Frontend for Links {
    type Key = Way;

    fn emit<'ctx>(&self, way: &Way, unit: &mut Unit<'_, 'ctx, Way>) -> Result<(), BoxError> {
        let context = unit.context();
        let ty = context.i64_type().fn_type(&[], false);
        let own = unit.define(ty);
        let name = own.get_name().to_str()?.to_owned();
        let module = unit.module();
        let link = |text: &str| {
            let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
            let other = context
                .create_module_from_ir(text)
                .map_err(|e| e.to_string())?;
            module.link_in_module(other).map_err(|e| e.to_string())
        };
        let alias = "define internal i64 @f() { ret i64 1 } @a = alias i64 (), ptr @f";
        let body = |n: i32| format!("define i64 @{name}() {{ ret i64 {n} }}");
        let fill = || {
            let builder = context.create_builder();
            builder.position_at_end(context.append_basic_block(own, "entry"));
            builder.build_return(Some(&context.i64_type().const_int(9, false)))
        };
        match way {
            Way::Body => link(&body(7))?,
            Way::Alias => link(alias)?,
            Way::Private => {
                fill()?;
                own.set_linkage(Linkage::Private);
                link(alias)?;
            }
            Way::Again => {
                link(&body(8))?;
                assert_eq!(unit.define(ty).count_basic_blocks(), 1);
            }
            Way::Plain => {
                fill()?;
            }
        }
        Ok(())
    }
}

#[test]
fn what_is_linked_in_is_found() {
    // In several batches, and all in one.
    for limit in [1, 16] {
        let cache = Cache::builder(Links).batch_limit(limit).build().unwrap();
        let me = cache.participant("test");
        let ways = [
            (Way::Plain, Some(9)),
            (Way::Body, Some(7)),
            (Way::Alias, None),
            (Way::Private, Some(9)),
            (Way::Again, Some(8)),
        ];
        // SAFETY: all methods are of this type.
        let handles = ways.map(|(way, _)| unsafe { cache.method::<Constant>(&way) }.unwrap());
        for handle in &handles {
            handle.request().unwrap();
        }
        for (handle, (way, expected)) in handles.iter().zip(ways) {
            let mut guard = me.pin();
            match (handle.get(&mut guard), expected) {
                // SAFETY: the type is right.
                (Ok(entry), Some(n)) => assert_eq!(unsafe { entry.call() }, n, "{way:?}"),
                (Err(Error::Verification { message, .. }), None) => {
                    assert!(message.contains("no body"), "{message}");
                }
                (other, _) => panic!("{way:?}: {:?}", other.map(|_| ())),
            }
        }
    }
}
