fn main() {
    use burn::module::Module;
    use burn::tensor::*;
    let device = Device::flex().autodiff();
    for (scale, size) in [(0.5, 64usize), (1.0, 64)] {
        let cfg = models::backbone::PpLcNetV2Config {
            scale,
            depths: [2, 2, 4, 2],
            class_expand: 256,
            shitu: true,
            dropout: 0.0,
            fused: false,
        };
        let m = cfg.init(&device);
        println!("params {}", m.num_params());
        let x = Tensor::<4>::random([64, 3, size, size], Distribution::Normal(0.0, 1.0), &device);
        for _ in 0..4 {
            let t = std::time::Instant::now();
            let y = m.forward(x.clone());
            let s = y.powi_scalar(2).mean();
            let v = s.clone().into_scalar::<f32>();
            let tf = t.elapsed();
            let g = s.backward();
            println!(
                "{scale} {size} fwd {tf:?} total {:?} {v} ips {}",
                t.elapsed(),
                64.0 / t.elapsed().as_secs_f64()
            );
            drop(g);
        }
        let mi = m.valid().fuse();
        let x = Tensor::<4>::random(
            [1, 3, size, size],
            Distribution::Normal(0.0, 1.0),
            &Device::flex(),
        );
        for _ in 0..3 {
            let t = std::time::Instant::now();
            let y = mi.forward(x.clone());
            let _ = y.into_data();
            println!("infer {:?}", t.elapsed());
        }
    }
}
