//! Buffers that fit what is said here.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Requests and answers are a few hundred bytes: what they are read into and written to, at first, in bytes. With tonic's own
/// 8 KiB an allocator spends more on the two buffers of a call than on everything else of it.
const SMALL: usize = 1000;
/// From how many buffered bytes on a stream of answers is passed on; tonic's own.
const YIELD: usize = 32 * 1024;

/// tonic's codec with small buffers. They grow when they have to.
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(SMALL, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(SMALL, YIELD))
    }
}
