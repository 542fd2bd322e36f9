//! How messages of gRPC are read and written: prost's bytes, in buffers that begin small.
//!
//! tonic gives every stream sixteen KiB before its first message. Ten thousand agents each keep one
//! open on which they say next to nothing; a buffer that has to hold more grows.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// Bytes a buffer begins with; most messages of agents are smaller.
const BEGIN: usize = 512;
/// Bytes of encoded messages that are gathered before they are sent: tonic's own value.
const GATHER: usize = 32 * 1024;

/// What the generated clients and servers use; named in `build.rs`.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BEGIN, GATHER)
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Fitted<T>;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        Fitted(ProstCodec::<T, U>::raw_encoder(settings()))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

/// Makes room for a message before it is written: a hundred tasks told by a watch would otherwise
/// move eight times while they are.
#[derive(Debug)]
pub struct Fitted<T>(ProstEncoder<T>);

impl<T: Message> Encoder for Fitted<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.encoded_len());
        self.0.encode(message, to)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
