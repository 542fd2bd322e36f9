//! Account settings: put, delete, list.

use crate::authz::Caller;
use crate::call::Call;
use crate::dispatcher::Dispatcher;
use crate::read;
use crate::write::{Draft, Fresh};
use muster_model::{Error, UserRole};
use muster_proto::{convert, pb};

impl Dispatcher {
    pub async fn put_account_setting(
        &self,
        call: &Call,
        request: pb::PutAccountSettingRequest,
    ) -> Result<pb::PutAccountSettingResponse, Error> {
        let by = &call.principal;
        own_or_admin(call, &request.principal_arn)?;
        let make = |draft: &mut Draft<'_>| convert::account::put(draft.state, by, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let of = convert::account::principal(&written.state, by, &request.principal_arn)?;
        let setting = Some(read::account::one(&written.state, Some(of), &request.name)?);
        Ok(pb::PutAccountSettingResponse { setting })
    }

    pub async fn put_account_setting_default(
        &self,
        call: &Call,
        request: pb::PutAccountSettingDefaultRequest,
    ) -> Result<pb::PutAccountSettingDefaultResponse, Error> {
        let make = |_: &mut Draft<'_>| convert::account::put_default(&request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let setting = Some(read::account::one(&written.state, None, &request.name)?);
        Ok(pb::PutAccountSettingDefaultResponse { setting })
    }

    /// Answers the setting as it is from here on: the account's default.
    pub async fn delete_account_setting(
        &self,
        call: &Call,
        request: pb::DeleteAccountSettingRequest,
    ) -> Result<pb::DeleteAccountSettingResponse, Error> {
        let by = &call.principal;
        own_or_admin(call, &request.principal_arn)?;
        let make = |draft: &mut Draft<'_>| convert::account::delete(draft.state, by, &request);
        let written = self.write(call, &request.client_token, Fresh::IfMissing, make).await?;
        let of = convert::account::principal(&written.state, by, &request.principal_arn)?;
        let setting = Some(read::account::one(&written.state, Some(of), &request.name)?);
        Ok(pb::DeleteAccountSettingResponse { setting })
    }

    pub async fn list_account_settings(
        &self,
        call: &Call,
        request: pb::ListAccountSettingsRequest,
    ) -> Result<pb::ListAccountSettingsResponse, Error> {
        read::account::list(&*self.view(call, request.stale).await?, &call.principal, &request)
    }
}

/// Another's settings are an administrator's to change.
fn own_or_admin(call: &Call, principal_arn: &str) -> Result<(), Error> {
    let admin = matches!(call.caller, Caller::User { role: UserRole::Admin, .. });
    match admin || principal_arn.is_empty() {
        true => Ok(()),
        false => Err(Error::Denied {
            principal: call.principal.to_string(),
            action: "change the account settings of another; leave out principalArn".into(),
        }),
    }
}
