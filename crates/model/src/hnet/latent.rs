//! What the main network makes of a sequence: one vector a chunk.

use cistron_kernels::Packed;
use tch::Tensor;

use super::{HNet, Network, Pass, Stage};
use crate::routing::Routing;

impl HNet {
    /// Outputs of the main network, packed: a vector for each chunk of the innermost stage, which
    /// has seen that chunk's first token and all before. Also what each router decided, outermost
    /// first: tokens of a stage are the chunks of the one before.
    ///
    /// # Panics
    ///
    /// As [`HNet::forward`].
    pub fn latent(&self, tokens: &Tensor, lengths: &[i64]) -> (Packed, Vec<Routing>) {
        let (x, marks) = self.embed(tokens, lengths);
        let mut pass = Pass::new(&self.compute, false, marks);
        let latent = self.backbone.latent(&x, &mut pass);
        (latent, pass.routing)
    }
}

impl Stage {
    fn latent(&self, x: &Packed, pass: &mut Pass<'_>) -> Packed {
        let compute = pass.compute;
        let x = x.with(self.widen(&x.values));
        match &self.network {
            Network::Main(main) => main.forward(&x, None, false, compute).0,
            Network::Routed(stage) => {
                let (encoded, _) = stage.encoder.forward(&x, None, false, compute);
                let share = compute.selection.get(pass.routing.len()).copied();
                let marks = pass.marks.take();
                let (chunked, decided) = stage.router.chunk(&encoded, None, marks.as_ref(), share);
                pass.routing.push(decided);
                stage.inner.latent(&chunked.selected, pass)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, HNet};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn each_chunk_has_a_vector_that_its_sequence_alone_makes() {
        let text = r#"{"arch_layout": ["m1", ["T1"], "m1"], "d_model": [16, 24],
            "d_intermediate": [0, 64], "vocab_size": 8,
            "ssm_cfg": {"d_state": 4, "headdim": 8}, "attn_cfg":
            {"num_heads": 2, "rotary_emb_dim": 4, "window_size": -1}}"#;
        let config = Config::from_json(text, "config.json".as_ref()).expect("valid");
        let model = HNet::new(&config, 3, Device::Cpu).expect("valid");
        let tokens: Vec<i64> = (0..70).map(|i| (i * i / 3) % 5).collect();
        let read = |tokens: &[i64], lengths: &[i64]| {
            let _guard = tch::no_grad_guard();
            model.latent(&Tensor::from_slice(tokens), lengths)
        };
        let (both, routing) = read(&tokens, &[40, 30]);
        assert_eq!(routing.len(), 1);
        let chunks = routing[0].mask.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(both.values.size(), [chunks, 24]);
        let (first, _) = read(&tokens[..40], &[40]);
        let part = both.values.narrow(0, 0, first.values.size()[0]);
        assert!((part - first.values).abs().max().double_value(&[]) < 1e-5);
    }
}
