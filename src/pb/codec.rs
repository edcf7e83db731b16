//! Buffers that fit what is said here.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What requests are read into at first, in bytes: most have a few hundred. With tonic's own 8 KiB an allocator spends more on the
/// two buffers of a call than on everything else of it.
const REQUEST: usize = 1000;
/// What answers are written to at first, in bytes. Most that hold a credential and its signature fit.
const ANSWER: usize = 2000;
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
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(ANSWER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(REQUEST, YIELD))
    }
}
