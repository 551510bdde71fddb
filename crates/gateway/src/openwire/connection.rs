//! The task of one OpenWire connection: bytes in and out, clocks, and what the machine in `dialogue` asks for. It takes no
//! decision of the protocol but the negotiation.

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use quorate_service::clock::{monotonic_micros, wall_ms};
use quorate_wire::openwire::{self, Command, Decoder, EncodeError, Format, FrameError, Header};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    time::Instant,
};
use tokio_stream::StreamExt;
use tonic::Status;
use tracing::{debug, info};

use super::{
    Context,
    announcements::{Listener, heard as announced},
    browsing::Browsing,
    clients::{Seat, is_wanted},
    dialogue::{Closing, Dialogue, DialogueConfig, Effect, Input, Now, Refusal},
    exchange::Claimed,
};
use crate::{
    calls::Told,
    engine::ConnectionCalls,
    limits::{
        NEGOTIATION_TIMEOUT, OPENWIRE_ALIVE_MIN, OPENWIRE_FAREWELL, OPENWIRE_OUT_BYTES,
        OPENWIRE_READ_BYTES,
    },
    listener::Serves,
    mailbox::{Frames, Mailbox},
    session::{self, CallId, Time},
};

/// Why a connection ends that is not closed by its machine.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("offer a format: {0}")]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Incompatible(#[from] openwire::Incompatible),
    #[error("the client did not say in time how it speaks")]
    Slow,
    #[error("the client left")]
    Left,
    #[error("nothing came from the client for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("{}", .0.message())]
    Stopping(Status),
}

/// Serves a client until one of both ends it.
pub(super) async fn serve<S>(socket: S, (peer, port): (SocketAddr, Serves), context: Arc<Context>)
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(socket);
    let mut speaker = Speaker {
        reader,
        writer,
        decoder: Decoder::new(),
        heard: BytesMut::with_capacity(OPENWIRE_READ_BYTES),
        said: BytesMut::new(),
        written: 0,
        last_heard: Instant::now(),
        last_said: Instant::now(),
    };
    let negotiated = tokio::time::timeout(NEGOTIATION_TIMEOUT, speaker.negotiate(&context)).await;
    let format = match negotiated.unwrap_or(Err(Broken::Slow)) {
        Ok(format) => format,
        Err(error) => return debug!(%peer, %error, "openwire connection ended at its beginning"),
    };
    let mut task = match Task::new(speaker, format, (peer, port), context) {
        Ok(task) => task,
        Err(error) => return debug!(%peer, %error, "openwire connection cannot be served"),
    };
    match task.run().await {
        Ok(closing) => debug!(%peer, ?closing, "openwire connection closed"),
        Err(Broken::Left) => debug!(%peer, "openwire client left"),
        Err(error @ (Broken::Frame(_) | Broken::Silent(_))) => {
            info!(%peer, %error, "openwire connection ended");
        }
        Err(error) => debug!(%peer, %error, "openwire connection ended"),
    }
    task.give_back().await;
}

/// The two directions of a socket.
struct Speaker<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    decoder: Decoder,
    heard: BytesMut,
    said: BytesMut,
    /// Bytes that the socket has taken since the beginning.
    written: u64,
    last_heard: Instant,
    last_said: Instant,
}

impl<S: AsyncRead + AsyncWrite> Speaker<S> {
    /// Says how we speak and hears how the client does.
    async fn negotiate(&mut self, context: &Context) -> Result<Format, Broken> {
        let offer = context.offer();
        let own = offer.info();
        let format = offer.agree(&own)?;
        openwire::encode(&Command::WireFormatInfo(own), &format, &mut self.said)?;
        self.writer.write_all(&self.said).await?;
        self.said.clear();
        loop {
            // The decoder takes nothing else at this point.
            let command = self.decoder.next(&mut self.heard)?;
            if let Some(Command::WireFormatInfo(theirs)) = command {
                let format = offer.agree(&theirs)?;
                self.decoder.agree(format);
                return Ok(format);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Broken> {
        self.heard.reserve(OPENWIRE_READ_BYTES);
        match self.reader.read_buf(&mut self.heard).await? {
            0 => Err(Broken::Left),
            _ => {
                self.last_heard = Instant::now();
                Ok(())
            }
        }
    }

    async fn write(&mut self) -> Result<(), Broken> {
        let taken = self.writer.write_buf(&mut self.said).await?;
        if taken == 0 {
            return Err(Broken::Left);
        }
        self.written += taken as u64;
        self.last_said = Instant::now();
        Ok(())
    }

    /// Says what is left. Who has said goodbye closes the socket itself: if we did, the client could take that for a loss.
    /// So could one that was refused, and with `failover:` it would ask again at once and without end.
    async fn part(&mut self, closing: Closing) -> Result<(), Broken> {
        while !self.said.is_empty() {
            self.write().await?;
        }
        match closing {
            Closing::Done | Closing::Refused => {}
            Closing::TakenOver | Closing::Misspoke(_) | Closing::Unserved | Closing::Lost => {
                self.writer.shutdown().await?;
                return Ok(());
            }
        }
        loop {
            self.heard.clear();
            self.read().await?;
        }
    }
}

/// See the head of the file.
struct Task<S> {
    speaker: Speaker<S>,
    format: Format,
    agreed_at: Instant,
    peer: SocketAddr,
    port: Serves,
    context: Arc<Context>,
    dialogue: Dialogue,
    calls: ConnectionCalls,
    answers: Frames<Told, ()>,
    browsing: Browsing,
    pages: mpsc::Receiver<Input>,
    seat: Option<Seat>,
    claimed: Option<Claimed>,
    listener: Option<Listener>,
    effects: Vec<Effect>,
    /// What follows once the socket has taken so much.
    leaving: VecDeque<(u64, Once)>,
    closing: Option<Closing>,
}

/// What waits for the socket.
enum Once {
    /// Deliveries of so many stored bytes are out.
    Taken(CallId, u64),
    /// A browser has room for more.
    More(u64),
}

/// What woke a task.
enum Wake {
    Heard,
    Wrote,
    Told(Vec<session::Effect>),
    Machine(Input),
    Timer,
    Stop,
}

impl<S: AsyncRead + AsyncWrite> Task<S> {
    fn new(
        speaker: Speaker<S>,
        format: Format,
        (peer, port): (SocketAddr, Serves),
        context: Arc<Context>,
    ) -> Result<Self, getrandom::Error> {
        let mailbox = Mailbox::new();
        let calls = context.engine.connection(Arc::clone(&mailbox));
        let (browsing, pages) = Browsing::new(context.browser.clone());
        let dialogue = Dialogue::new(DialogueConfig {
            first_call: calls.first,
            broker_id: context.broker_id.clone(),
            broker_name: context.name.clone(),
            broker_url: context.url.clone(),
            peers: context.peers(port),
            message_bytes_max: context.message_bytes_max,
            seed: getrandom::u64()?,
        });
        Ok(Self {
            speaker,
            format,
            agreed_at: Instant::now(),
            peer,
            port,
            context,
            dialogue,
            calls,
            answers: Frames::new(mailbox, ()),
            browsing,
            pages,
            seat: None,
            claimed: None,
            listener: None,
            effects: Vec::new(),
            leaving: VecDeque::new(),
            closing: None,
        })
    }

    /// Ends with what the machine says, or with what broke the connection.
    async fn run(&mut self) -> Result<Closing, Broken> {
        let mut view = self.context.view.clone();
        let context = Arc::clone(&self.context);
        loop {
            // What has come whole is taken in before more is read.
            self.hear().await?;
            if let Some(closing) = self.closing {
                let farewell = self.speaker.part(closing);
                // Whether or not the client lets us finish.
                drop(tokio::time::timeout(OPENWIRE_FAREWELL, farewell).await);
                return Ok(closing);
            }
            let may_take = self.speaker.said.len() < OPENWIRE_OUT_BYTES;
            let is_heard = self.dialogue.may_read();
            let may_read = may_take && is_heard;
            if !is_heard {
                // Who is not listened to is not silent. Who takes nothing is: it shows life by taking.
                self.speaker.last_heard = Instant::now();
            }
            let timer = tokio::time::sleep_until(self.next_timer());
            let has_said = !self.speaker.said.is_empty();
            let Speaker {
                reader,
                writer,
                heard,
                said,
                ..
            } = &mut self.speaker;
            if may_read {
                heard.reserve(OPENWIRE_READ_BYTES);
            }
            let wake = tokio::select! {
                read = reader.read_buf(heard), if may_read => match read? {
                    0 => return Err(Broken::Left),
                    _ => Wake::Heard,
                },
                written = writer.write_buf(said), if has_said => {
                    self.speaker.written += written? as u64;
                    Wake::Wrote
                }
                Some(Ok(told)) = self.answers.next(), if may_take => Wake::Told(told),
                Some(page) = self.pages.recv(), if may_take => Wake::Machine(page),
                told = announced(self.listener.as_mut()), if may_take => Wake::Machine(told),
                () = is_wanted(self.seat.as_ref()) => Wake::Machine(Input::TakenOver),
                Ok(()) = view.changed() => Wake::Machine(Input::Peers(context.peers(self.port))),
                () = timer => Wake::Timer,
                () = context.shutdown.requested() => Wake::Stop,
            };
            self.wake(wake).await?;
        }
    }

    async fn wake(&mut self, wake: Wake) -> Result<(), Broken> {
        match wake {
            Wake::Heard => self.speaker.last_heard = Instant::now(),
            Wake::Wrote => {
                self.speaker.last_said = Instant::now();
                if self.speaker.said.len() >= OPENWIRE_OUT_BYTES {
                    self.speaker.last_heard = self.speaker.last_said;
                }
                self.taken().await?;
            }
            Wake::Told(told) => {
                for effect in told {
                    self.step(Input::Answered(effect));
                }
                self.carry_out().await?;
            }
            Wake::Machine(input) => {
                self.step(input);
                self.carry_out().await?;
            }
            Wake::Timer => {
                self.keep_alive()?;
                self.step(Input::Elapsed);
                self.carry_out().await?;
            }
            Wake::Stop => {
                return Err(Broken::Stopping(Status::unavailable("gateway is stopping")));
            }
        }
        Ok(())
    }

    /// Takes in the commands that have come.
    async fn hear(&mut self) -> Result<(), Broken> {
        while self.closing.is_none()
            && self.dialogue.may_read()
            && self.speaker.said.len() < OPENWIRE_OUT_BYTES
        {
            let Some(command) = self.speaker.decoder.next(&mut self.speaker.heard)? else {
                break;
            };
            self.step(Input::Heard(command));
            // Sends that wait for no answer go on as one.
            let is_more = self
                .effects
                .last()
                .is_some_and(|effect| !is_publish(effect));
            if is_more || self.effects.len() >= PUBLISH_TOGETHER {
                self.carry_out().await?;
            }
        }
        self.carry_out().await
    }

    fn step(&mut self, input: Input) {
        let now = Now {
            mono: Time(monotonic_micros()),
            wall_ms: wall_ms(),
        };
        self.dialogue.step(now, input, &mut self.effects);
    }

    /// Does what the machine asks for, and what it asks for because of that.
    async fn carry_out(&mut self) -> Result<(), Broken> {
        while !self.effects.is_empty() {
            let mut publish: Option<session::Input> = None;
            for effect in std::mem::take(&mut self.effects) {
                let effect = match (&mut publish, effect) {
                    (Some(earlier), Effect::Tell(later)) => match joined(earlier, later) {
                        None => continue,
                        Some(later) => Effect::Tell(later),
                    },
                    (_, effect) => effect,
                };
                if let Some(publish) = publish.take() {
                    self.tell(publish).await?;
                }
                match effect {
                    Effect::Tell(input @ session::Input::Publish { .. }) => publish = Some(input),
                    effect => self.carry_out_one(effect).await?,
                }
            }
            if let Some(publish) = publish {
                self.tell(publish).await?;
            }
        }
        Ok(())
    }

    async fn carry_out_one(&mut self, effect: Effect) -> Result<(), Broken> {
        match effect {
            Effect::Say(command) => self.say(&command),
            Effect::Call(call) => self.calls.begin(call).await.map_err(Broken::Stopping)?,
            Effect::Tell(input) => self.tell(input).await?,
            Effect::Taken { call, bytes } => self.once_said(Once::Taken(call, bytes)).await?,
            Effect::Admit {
                connection_id,
                client_id,
                user,
                password,
            } => {
                let known = self
                    .context
                    .accounts
                    .admit(user.as_deref(), password.as_deref());
                let admitted = match known {
                    true => self.admit(&connection_id, client_id.as_deref()).await,
                    false => Err(Refusal::Credentials),
                };
                if admitted.is_err() {
                    info!(peer = %self.peer, user, ?admitted, "openwire client is not let in");
                }
                self.step(Input::Admitted(admitted));
            }
            Effect::Vacate => self.vacate().await,
            Effect::Announce {
                destination,
                is_there,
            } => {
                let told = self.context.announce(destination, is_there).await;
                told.map_err(Broken::Stopping)?;
            }
            Effect::Browse {
                browser,
                queue,
                selector,
            } => self.browsing.begin(browser, queue, selector),
            Effect::BrowseMore { browser } => self.once_said(Once::More(browser)).await?,
            Effect::StopBrowse { browser } => self.browsing.end(browser),
            Effect::Close(closing) => {
                self.closing = Some(closing);
                self.claimed = None;
                self.seat = None;
            }
        }
        Ok(())
    }

    async fn admit(&mut self, connection: &str, client: Option<&str>) -> Result<(), Refusal> {
        // Its own earlier place, if it says its name twice.
        self.claimed = None;
        self.seat = None;
        self.context.exchange.open();
        let seat = self
            .context
            .clients
            .take(connection, client, self.peer)
            .await?;
        if let Some(client) = client {
            self.claimed = self.context.claim(&seat, connection, client).await?;
        }
        self.seat = Some(seat);
        self.listener = Some(self.context.announcements.listen());
        self.speaker.decoder.open();
        Ok(())
    }

    /// The client leaves: whoever asks for its client id after the answer finds it free, wherever that is.
    async fn vacate(&mut self) {
        let claimed = self.claimed.take();
        self.seat = None;
        if let Some(claimed) = claimed {
            claimed.release().await;
        }
    }

    async fn tell(&mut self, input: session::Input) -> Result<(), Broken> {
        self.calls.tell(input).await.map_err(Broken::Stopping)
    }

    fn say(&mut self, command: &Command) {
        let said = openwire::encode(command, &self.format, &mut self.speaker.said);
        if let Err(error) = said {
            // Only a message of extreme size; the client keeps what it has.
            info!(peer = %self.peer, command = command.name(), %error, "command cannot be said");
            self.closing = Some(Closing::Misspoke(
                "a command to the client does not fit a frame",
            ));
        }
    }

    /// Does something when the socket has taken all that is said.
    async fn once_said(&mut self, what: Once) -> Result<(), Broken> {
        let goal = self.speaker.written + self.speaker.said.len() as u64;
        self.leaving.push_back((goal, what));
        self.taken().await
    }

    /// The socket has taken something.
    async fn taken(&mut self) -> Result<(), Broken> {
        let written = self.speaker.written;
        while let Some((_, what)) = self.leaving.pop_front_if(|(goal, _)| *goal <= written) {
            match what {
                // Nobody's burden here any more.
                Once::Taken(call, bytes) => {
                    self.tell(session::Input::Taken { call, bytes }).await?;
                }
                Once::More(browser) => self.browsing.more(browser),
            }
        }
        Ok(())
    }

    /// Says a sign of life if it is time, and ends what gives none.
    fn keep_alive(&mut self) -> Result<(), Broken> {
        let Some(inactivity) = self.format.inactivity else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= self.silent_from(inactivity) {
            return Err(Broken::Silent(inactivity));
        }
        if now.duration_since(self.speaker.last_said) >= alive_after(inactivity) {
            self.speaker.last_said = now;
            self.say(&Command::KeepAliveInfo(openwire::KeepAliveInfo {
                header: Header::default(),
            }));
        }
        Ok(())
    }

    /// When the client is taken to be gone. A client begins to give signs of life after the initial delay.
    fn silent_from(&self, inactivity: Duration) -> Instant {
        let settled = self.agreed_at + self.format.inactivity_initial_delay;
        self.speaker.last_heard.max(settled) + inactivity
    }

    fn next_timer(&self) -> Instant {
        let far = Duration::from_secs(3_600);
        let due = self.dialogue.next_deadline();
        let left = due.map_or(far, |at| {
            Duration::from_micros(at.since(Time(monotonic_micros())))
        });
        let due = Instant::now() + left.min(far);
        match self.format.inactivity {
            Some(inactivity) => due
                .min(self.silent_from(inactivity))
                .min(self.speaker.last_said + alive_after(inactivity)),
            None => due,
        }
    }

    /// The connection is over: what the client held goes back.
    async fn give_back(&mut self) {
        self.step(Input::Closed);
        if let Err(error) = self.carry_out().await {
            debug!(peer = %self.peer, %error, "connection gives back nothing");
        }
    }
}

/// How long nothing is said before a sign of life is.
fn alive_after(inactivity: Duration) -> Duration {
    (inactivity / 3).max(OPENWIRE_ALIVE_MIN)
}

/// Sends that are told to the engine at one time.
const PUBLISH_TOGETHER: usize = 1024;

fn is_publish(effect: &Effect) -> bool {
    matches!(effect, Effect::Tell(session::Input::Publish { .. }))
}

/// Adds a publish to the one before it, if both are of one call and producer; gives back what is not.
fn joined(earlier: &mut session::Input, later: session::Input) -> Option<session::Input> {
    match (earlier, later) {
        (
            session::Input::Publish {
                call,
                producer,
                messages,
                ..
            },
            session::Input::Publish {
                call: same_call,
                producer: same_producer,
                messages: more,
                ..
            },
        ) if (*call, *producer) == (same_call, same_producer) => {
            messages.extend(more);
            None
        }
        (_, later) => Some(later),
    }
}

#[cfg(test)]
mod tests;
