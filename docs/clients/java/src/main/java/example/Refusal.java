package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;

/** The vault hands nothing out: why, in words for programs ({@code code}, {@code reason}) and for people. */
final class Refusal extends Exception {
    final Status.Code code;
    final String reason;
    final Map<String, String> metadata;
    /** After what time it may be tried again; null if the vault does not say so. */
    final Duration retryAfter;

    private Refusal(Status status, ErrorInfo info, Duration retryAfter) {
        super((status.getCode() + " " + info.getReason()).strip() + ": " + status.getDescription());
        this.code = status.getCode();
        this.reason = info.getReason();
        this.metadata = info.getMetadataMap();
        this.retryAfter = retryAfter;
    }

    static Refusal of(StatusRuntimeException error) {
        var info = ErrorInfo.getDefaultInstance();
        Duration retryAfter = null;
        var details = StatusProto.fromThrowable(error);
        for (Any detail : details == null ? java.util.List.<Any>of() : details.getDetailsList()) {
            try {
                if (detail.is(ErrorInfo.class)) {
                    info = detail.unpack(ErrorInfo.class);
                } else if (detail.is(RetryInfo.class)) {
                    var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
                }
            } catch (InvalidProtocolBufferException unreadable) {
                // The code is known all the same.
            }
        }
        return new Refusal(error.getStatus(), info, retryAfter);
    }
}
