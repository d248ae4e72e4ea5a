//! A checkpoint as PaddlePaddle writes it.

use std::path::Path;

use models::weights::{NamedTensor, Weights};
use native_trainer::exchange::import::paddle_name;
use native_trainer::recipe::{Recipe, Task};

use crate::world::World;

/// What PaddlePaddle would keep of the recipe's network: a pickle of arrays, and the recipe.
pub(crate) fn checkpoint(world: &World) {
    let recipe = world.recipe(Path::new("photos"), 1);
    let Task::Extractor(task) = Recipe::read(&recipe, &[]).expect("a recipe").task else {
        panic!("trains an extractor");
    };
    let device = burn::tensor::Device::flex();
    let weights = Weights::from_module(&task.model.init(&device));
    let theirs = weights.tensors.into_iter().map(|(name, tensor)| {
        let theirs = name.replace("running_mean", "_mean").replace("running_var", "_variance");
        assert_eq!(paddle_name(&theirs).as_ref(), Some(&name));
        (theirs, tensor)
    });
    world.write("best.pdparams", pickle(theirs));
}

/// What `paddle.save` writes of a state dict: its arrays, and the names that its variables have in a program.
pub(crate) fn pickle(tensors: impl IntoIterator<Item = (String, NamedTensor)>) -> Vec<u8> {
    let mut bytes = vec![0x80, 4, b'}', b'('];
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend([0x8c, text.len() as u8]);
        bytes.extend(text.as_bytes());
    };
    text(&mut bytes, "StructuredToParameterName@@");
    bytes.extend([b'}', b'(']);
    text(&mut bytes, "backbone.conv1.conv.weight");
    text(&mut bytes, "conv2d_0.w_0");
    bytes.push(b'u');
    for (theirs, NamedTensor { shape, values }) in tensors {
        text(&mut bytes, &theirs);
        for [module, function] in [["numpy.core.multiarray", "_reconstruct"], ["numpy", "ndarray"]]
        {
            text(&mut bytes, module);
            text(&mut bytes, function);
            bytes.push(0x93);
        }
        bytes.extend([b'K', 0, 0x85, b'C', 1, b'b', 0x87, b'R', b'(', b'K', 1, b'(']);
        for side in shape {
            bytes.push(b'M');
            bytes.extend((side as u16).to_le_bytes());
        }
        bytes.push(b't');
        text(&mut bytes, "numpy");
        text(&mut bytes, "dtype");
        bytes.push(0x93);
        text(&mut bytes, "f4");
        bytes.extend([0x89, 0x88, 0x87, b'R', b'(', b'K', 3]);
        text(&mut bytes, "<");
        bytes.extend([b'N', b't', b'b', 0x89, b'B']);
        bytes.extend((values.len() as u32 * 4).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend([b't', b'b']);
    }
    bytes.extend([b'u', b'.']);
    bytes
}
