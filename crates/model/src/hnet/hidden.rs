//! What a model makes of tokens, before it says what comes next.

use tch::{Kind, Tensor};

use super::HNet;
use crate::routing::Routing;

impl HNet {
    /// The vectors that the output layer reads, fp32 `[tokens, width]`, with what each router
    /// decided, outermost first.
    ///
    /// # Panics
    ///
    /// As [`HNet::forward`].
    pub fn hidden(&self, tokens: &Tensor, lengths: &[i64]) -> (Tensor, Vec<Routing>) {
        let x = self.embed(tokens, lengths);
        let mut routing = Vec::new();
        let (y, _) = self
            .backbone
            .forward(&x, None, false, &self.compute, &mut routing);
        (y.to_kind(Kind::Float), routing)
    }
}
