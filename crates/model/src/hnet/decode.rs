//! One token of every row through all stages, with a mask for the rows whose memory changes.

use cistron_kernels::step;
use tch::{Kind, Tensor};

use super::{HNet, Network, Routed, Stage};
use crate::compute::Compute;
use crate::decode::{RoutedCache, StageCache};

impl HNet {
    /// Tokens i64 `[rows]` to scores `[rows, vocabulary]`; rows outside `mask`, bool `[rows]`,
    /// leave `cache` as it is. Asks the device nothing.
    pub(crate) fn decode(&self, tokens: &Tensor, cache: &mut StageCache, mask: &Tensor) -> Tensor {
        let x = Tensor::embedding(&self.embeddings, tokens, -1, false, false);
        let y = self.backbone.decode(&x, cache, mask, &self.compute);
        self.logits(&y)
    }
}

impl Stage {
    fn decode(
        &self,
        x: &Tensor,
        cache: &mut StageCache,
        mask: &Tensor,
        compute: &Compute,
    ) -> Tensor {
        let outer = x.size()[1];
        let x = self.widen(x);
        let y = match (&self.network, cache) {
            (Network::Main(main), StageCache::Main(cache)) => main.decode(&x, cache, mask, compute),
            (Network::Routed(stage), StageCache::Routed(cache)) => {
                stage.decode(&x, cache, mask, compute)
            }
            _ => unreachable!("a cache comes from a model of the same layout"),
        };
        y.narrow(1, 0, outer)
    }
}

impl Routed {
    fn decode(
        &self,
        x: &Tensor,
        cache: &mut RoutedCache,
        mask: &Tensor,
        compute: &Compute,
    ) -> Tensor {
        let encoded = self.encoder.decode(x, &mut cache.encoder, mask, compute);
        // As the router takes it.
        let now = match encoded.kind() {
            Kind::Double => encoded.shallow_clone(),
            _ => encoded.to_kind(Kind::Float),
        };
        let residual = self.router.residual(&now);
        let [prob, starting] = &self
            .router
            .decode(&now, mask, &mut cache.last, &mut cache.seen);
        let z = self
            .inner
            .decode(&encoded, &mut cache.inner, starting, compute);
        let back = step::Dechunk {
            z: &z,
            prob,
            starting,
            residual: &residual,
            ceiling: self.router.ceiling(),
        };
        let x = step::dechunk(back, &mut cache.average);
        self.decoder.decode(&x, &mut cache.decoder, mask, compute)
    }
}
